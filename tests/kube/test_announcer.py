"""Marks and Events, written with the least of rights."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
import trio

from agent.kube.announcer import GONE, Announcer
from agent.kube.client import ApiFailed, Client
from agent.kube.marks import MERGE_PATCH, Mark
from tests.cluster.control_plane import until
from tests.kube.world import World, watching, written

pytestmark = [
    pytest.mark.slow,
    # httpcore 1.0 leaves the socket of a TLS handshake that is cancelled to the garbage
    # collector, and a test may end while a watch is being opened.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
        "ignore:unclosed <s:ResourceWarning",
    ),
]


async def test_marks_and_events(world: World) -> None:
    """
    A captured pod is found by other nodes, one that left is not; both halves of the
    mark are written with a right to `pods/status` alone.
    """
    uid = await written(world.pod, "web", world.node, "10.1.0.1")
    await written(world.account, "agent")
    await written(
        world.grant, "agent", ("", "pods/status", "patch"), ("", "events", "create")
    )
    token = await written(world.token, "agent")
    async with (
        watching(world) as (seen, _),
        Client(world.as_account(token)) as writer,
        trio.open_nursery() as nursery,
    ):
        announcer = Announcer(
            *(writer, world.node, seen.source.own_pods),
            chance=random.random,
            clock=lambda: datetime.now(UTC),
        )
        nursery.start_soon(announcer.run)
        announcer.in_mesh({uid}, {uid})
        announcer.captured(seen.pods(world.namespace)["web"], "in the mesh")
        await seen.until(lambda: seen.pods(world.namespace)["web"].marked)
        meta = (await written(world.read_pod, "web"))["metadata"]
        assert meta["labels"] == {"app": "web", "podlock.io/tunnel": "hbone"}

        announcer.in_mesh(set(), set())
        await seen.until(lambda: not seen.pods(world.namespace)["web"].marked)
        meta = (await written(world.read_pod, "web"))["metadata"]
        assert meta["labels"] == {"app": "web"}

        await written(until, partial(_events, world))
        told = await written(_events, world)
        assert [(e["reason"], e["involvedObject"]["uid"]) for e in told] == [
            ("MeshCaptured", uid)
        ]
        nursery.cancel_scope.cancel()


def _events(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.plane.admin("GET", f"{world.home}/events")[
        "items"
    ]
    return found


async def test_another_pod_of_that_name(world: World) -> None:
    """Is not marked for the one that went."""
    await written(world.pod, "web", world.node, "10.1.0.1")
    mark = Mark(world.namespace, "web", "8a1ca1b4-0000-0000-0000-000000000000", on=True)
    async with Client(world.as_admin()) as client:
        with pytest.raises(ApiFailed) as caught:
            await client.send("PATCH", mark.path, mark.body, MERGE_PATCH)
    assert caught.value.failure.kind in GONE
    meta = (await written(world.read_pod, "web"))["metadata"]
    assert meta["labels"] == {"app": "web"}
