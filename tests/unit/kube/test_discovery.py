"""What a server has is asked once, and what it lacks is believed when it is ready."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from agent.kube.client import ApiFailed
from agent.kube.discovery import KEPT_SECONDS, READY_PATH, Discovery
from agent.kube.failure import Failure, FailureKind
from agent.kube.resources import Served
from tests.unit.kube.fakes import AWAY, FakeApi

HOME = "/apis/policy.linkerd.io/v1beta1"
SERVER = Served("policy.linkerd.io", "v1beta1", "servers", "Server")
OTHER = Served("policy.linkerd.io", "v1beta1", "others", "Other")
POD = Served("", "v1", "pods", "Pod")


async def ask_all(discovery: Discovery, *kinds: Served) -> list[Served | None]:
    """All at once, in the order of `kinds`."""
    found: dict[Served, Served | None] = {}

    async def ask(kind: Served) -> None:
        found[kind] = await discovery.find([kind])

    async with trio.open_nursery() as nursery:
        for kind in kinds:
            nursery.start_soon(ask, kind)
    return [found[kind] for kind in kinds]


async def test_one_question_for_all(autojump_clock: MockClock) -> None:
    """However many ask, also for what is not there."""
    api = FakeApi(served={"/api/v1": ["pods"], HOME: ["servers"]})
    found = await ask_all(Discovery(api), POD, SERVER, OTHER)
    assert found == [POD, SERVER, None]
    assert len(api.requests("/apis")) == 2  # the second one after it was ready
    assert len(api.requests(READY_PATH)) == 1
    assert len(api.requests(HOME)) == 2


async def test_what_is_missing_is_believed_for_a_while(
    autojump_clock: MockClock,
) -> None:
    """And then asked for anew."""
    api = FakeApi()
    discovery = Discovery(api)
    assert await ask_all(discovery, SERVER, OTHER) == [None, None]
    asked = len(api.asked)
    assert await discovery.find([SERVER]) is None
    assert len(api.asked) == asked
    api.served[HOME] = ["servers"]
    await trio.sleep(KEPT_SECONDS)
    assert await discovery.find([SERVER]) == SERVER


async def test_a_server_that_is_not_ready_lacks_nothing(
    autojump_clock: MockClock,
) -> None:
    """What it has is believed meanwhile; nothing of the rest is remembered."""
    api = FakeApi(failing={READY_PATH: Failure(FailureKind.AWAY, "readyz failed")})
    discovery = Discovery(api)
    with pytest.raises(ApiFailed, match="readyz failed"):
        await discovery.find([SERVER])
    assert await discovery.find([POD]) == POD
    del api.failing[READY_PATH]
    api.served[HOME] = ["servers"]
    assert await discovery.find([SERVER]) == SERVER


async def test_an_outage_is_not_remembered(autojump_clock: MockClock) -> None:
    """The next who asks may be luckier."""
    api = FakeApi(failing={"": AWAY})
    discovery = Discovery(api)
    with pytest.raises(ApiFailed):
        await discovery.find([POD])
    api.failing.clear()
    assert await discovery.find([POD]) == POD
