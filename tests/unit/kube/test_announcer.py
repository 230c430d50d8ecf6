"""Marks are written until they are right, Events once; nobody waits for either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import trio
from trio.testing import MockClock

from agent.kube.announcer import MAX_EVENTS, Announcer
from agent.kube.failure import Failure, FailureKind
from agent.workload.model import TUNNEL_MARK, Workload
from tests.unit.kube.fakes import AWAY, FakeApi
from tests.unit.workload.samples import pod

WEB = pod("shop/web", "10.1.0.1", uid="u-web")
STATUS = "/api/v1/namespaces/shop/pods/web/status"


class Run:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.pods: list[Workload] = [WEB]
        self.announcer = Announcer(
            *(self.api, "n1", lambda: self.pods),
            chance=lambda: 0.5,
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )

    def patches(self) -> list[str | None]:
        """The marks that were written: "hbone" or None."""
        return [
            document["metadata"]["labels"][TUNNEL_MARK]
            for method, _, document in self.api.sent
            if method == "PATCH"
        ]

    def events(self) -> list[str]:
        return [document["reason"] for m, _, document in self.api.sent if m == "POST"]


@asynccontextmanager
async def running() -> AsyncIterator[Run]:
    run = Run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.announcer.run)
        await trio.sleep(1)
        yield run
        nursery.cancel_scope.cancel()


async def test_nothing_is_written_before_control_said(
    autojump_clock: MockClock,
) -> None:
    """A new agent does not take off the marks of the one before."""
    async with running() as run:
        run.pods = [replace(WEB, marked=True, labels={TUNNEL_MARK: "hbone"})]
        await trio.sleep(60)
        assert run.patches() == []


async def test_one_patch_for_one_difference(autojump_clock: MockClock) -> None:
    """Not again while the watch has not told of it yet; after a while, yes."""
    async with running() as run:
        for _ in range(10):
            run.announcer.in_mesh({"u-web"}, {"u-web"})
            await trio.sleep(0.5)
        await trio.sleep(20)
        assert run.patches() == ["hbone"]
        await trio.sleep(10)
        assert run.patches() == ["hbone", "hbone"]


async def test_a_mark_is_tried_until_it_is_written(autojump_clock: MockClock) -> None:
    """However long the API server is away."""
    async with running() as run:
        run.api.failing[STATUS] = AWAY
        run.announcer.in_mesh({"u-web"}, {"u-web"})
        await trio.sleep(3600)
        assert "Connection refused" in run.announcer.fault
        assert run.patches() == []
        del run.api.failing[STATUS]
        await trio.sleep(31)
        assert run.patches() == ["hbone"]
        assert run.announcer.fault == ""


async def test_a_pod_that_is_gone_is_given_up(autojump_clock: MockClock) -> None:
    """404, or 409 and 422 where another has its name."""
    for kind in (FailureKind.ABSENT, FailureKind.CONFLICT, FailureKind.INVALID):
        async with running() as run:
            run.api.failing[STATUS] = Failure(kind, "gone")
            run.announcer.in_mesh({"u-web"}, {"u-web"})
            await trio.sleep(20)
            assert len(run.api.requests(STATUS)) == 1


async def test_one_that_fails_does_not_hold_the_others(
    autojump_clock: MockClock,
) -> None:
    """Each pod on its own."""
    async with running() as run:
        run.pods = [WEB, pod("shop/api", "10.1.0.2", uid="u-api")]
        run.api.failing[STATUS] = Failure(FailureKind.FORBIDDEN, "no")
        run.announcer.in_mesh({"u-web", "u-api"}, {"u-web", "u-api"})
        await trio.sleep(1)
        assert run.patches() == ["hbone"]


async def test_one_that_fails_does_not_hold_who_comes_later(
    autojump_clock: MockClock,
) -> None:
    """Until it is marked, other nodes speak plaintext to it: it waits for nobody."""
    async with running() as run:
        run.api.failing[STATUS] = Failure(FailureKind.FORBIDDEN, "a webhook says no")
        run.announcer.in_mesh({"u-web"}, {"u-web"})
        await trio.sleep(600)
        tries = len(run.api.requests(STATUS))
        run.pods = [WEB, pod("shop/api", "10.1.0.2", uid="u-api")]
        for _ in range(100):
            run.announcer.in_mesh({"u-web", "u-api"}, {"u-web", "u-api"})
            await trio.sleep(0.01)
        assert run.patches() == ["hbone"]
        assert len(run.api.requests(STATUS)) - tries <= 1
        assert "a webhook says no" in run.announcer.fault


async def test_a_pod_that_takes_no_mark_is_told(autojump_clock: MockClock) -> None:
    """Its annotations may be as many as Kubernetes takes: then it is not gone."""
    async with running() as run:
        run.api.failing[STATUS] = Failure(FailureKind.INVALID, "must be less than 256K")
        run.announcer.in_mesh({"u-web"}, {"u-web"})
        await trio.sleep(120)
        assert "must be less than 256K" in run.announcer.fault
        run.pods = []
        run.announcer.in_mesh((), ())
        await trio.sleep(1)
        assert run.announcer.fault == ""


async def test_events_of_captured_and_refused(autojump_clock: MockClock) -> None:
    """With reasons that can be looked for."""
    async with running() as run:
        run.announcer.captured(WEB, "in the mesh")
        run.announcer.refused(WEB, "no such namespace")
        await trio.sleep(1)
        assert run.events() == ["MeshCaptured", "MeshRefused"]


async def test_a_storm_of_events(autojump_clock: MockClock) -> None:
    """Sent at a pace; what does not fit is counted."""
    async with running() as run:
        for _ in range(MAX_EVENTS + 50):
            run.announcer.refused(WEB, "again")
        assert run.announcer.dropped_events == 50
        await trio.sleep(10)
        assert 150 < len(run.events()) <= 210
