"""A reflector never ends, never hammers, and says what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from agent.kube.client import Query
from agent.kube.discovery import Discovery
from agent.kube.failure import Failure, FailureKind
from agent.kube.reflector import News, Reflector
from agent.kube.resources import Resource, Served
from agent.kube.watch import Listed, Removed, Stored
from agent.recovery import CONNECT_SECONDS, interval
from tests.unit.kube.fakes import AWAY, FakeApi, pod

PODS = "/api/v1/pods"
POLICY = "/apis/policy.linkerd.io"


def resource() -> Resource:
    return Resource("pods", (Served("", "v1", "pods", "Pod"),))


def servers() -> Resource:
    versions = ("v1beta3", "v1beta1")
    found = tuple(
        Served("policy.linkerd.io", version, "servers", "Server")
        for version in versions
    )
    return Resource("servers", found, optional=True)


class Run:
    """A reflector and what it told."""

    def __init__(self, api: FakeApi, what: Resource) -> None:
        self.told: list[str] = []
        self.missing = 0
        self.reflector = Reflector(
            *(api, what, self._tell, self._missing, lambda: None),
            *(lambda: 1.0, trio.current_time, Discovery(api)),
        )

    def _tell(self, event: News, served: Served) -> None:
        match event:
            case Listed(items):
                names = sorted(item.key.name for item in items)
                self.told.append(f"{served.version}: {' '.join(names)}")
            case Stored(item):
                self.told.append(f"+{item.key.name}")
            case Removed(key):
                self.told.append(f"-{key.name}")

    def _missing(self) -> None:
        self.missing += 1


@asynccontextmanager
async def running(api: FakeApi, what: Resource | None = None) -> AsyncIterator[Run]:
    run = Run(api, what or resource())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.reflector.run)
        await trio.testing.wait_all_tasks_blocked()
        yield run
        nursery.cancel_scope.cancel()


def failing(run: Run) -> bool:
    return run.reflector.health.failure is not None


async def test_lists_then_watches(autojump_clock: MockClock) -> None:
    """And a watch that ends in time is taken up where it was."""
    api = FakeApi()
    api.put(PODS, pod("web", "n1"))
    async with running(api) as run:
        api.put(PODS, pod("api", "n1"))
        await trio.sleep(1000)  # the server ends a watch within 580 s
        api.delete(PODS, "web")
        await trio.sleep(1)
    assert run.told == ["v1: web", "+api", "-web"]
    versions = [query.get("resourceVersion") for query in api.requests(PODS)]
    assert versions == ["0", "101", "102"]


async def test_an_outage_of_an_hour(autojump_clock: MockClock) -> None:
    """Asks every few seconds at most, and tells since when."""
    api = FakeApi()
    async with running(api) as run:
        began = trio.current_time() + 2
        await trio.sleep(2)
        api.failing[""] = AWAY
        api.cut()
        before = len(api.asked)
        await trio.sleep(3600)
        assert len(api.asked) - before < 3600 / 4 + 10
        assert failing(run)
        assert abs(run.reflector.health.since - began) < 1
        del api.failing[""]
        api.put(PODS, pod("web", "n1"))
        await trio.sleep(40)
        assert not failing(run)
    # From the version that it knew: the fake has no memory, so a list would tell.
    assert api.requests(PODS)[-1]["resourceVersion"] == "100"


class UnreachableApi(FakeApi):
    """Connections get no answer and are given up."""

    async def get(self, path: str, query: Query = (), limit: int = 0) -> bytes:
        if self.failing:
            await trio.sleep(CONNECT_SECONDS)
        return await super().get(path, query, limit)


async def test_the_time_that_a_request_hangs_is_part_of_the_pause(
    autojump_clock: MockClock,
) -> None:
    """So the next one comes within the longest interval, as at every dependency."""
    api = UnreachableApi(failing={"": AWAY})
    async with running(api):
        await trio.sleep(60)
        before = len(api.asked)
        await trio.sleep(600)
        assert len(api.asked) - before >= 600 // interval(9, 1.0)


async def test_a_watch_that_ends_at_once_is_no_turn(autojump_clock: MockClock) -> None:
    """Some proxies close what they do not know; that must not become a loop."""
    api = FakeApi()
    async with running(api):
        for _ in range(300):
            api.cut()
            await trio.sleep(0.1)
    assert len(api.requests(PODS)) < 12


async def test_a_server_that_forgets_every_version(autojump_clock: MockClock) -> None:
    """410 to each watch: lists, with growing pauses between them."""
    api = FakeApi()
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    async with running(api):
        for _ in range(600):
            api.tell(PODS, gone)
            await trio.sleep(0.1)
    assert len(api.requests(PODS)) < 30


async def test_throttling(autojump_clock: MockClock) -> None:
    """Not before the server said."""
    api = FakeApi()
    api.failing[PODS] = Failure(FailureKind.THROTTLED, "busy", 20.0)
    async with running(api) as run:
        await trio.sleep(19)
        assert len(api.requests(PODS)) == 1
        del api.failing[PODS]
        await trio.sleep(10)
        assert run.told == ["v1: "]


async def test_a_right_that_is_missing(autojump_clock: MockClock) -> None:
    """Is told with the server's own words, and tried again."""
    api = FakeApi()
    api.failing[PODS] = Failure(FailureKind.FORBIDDEN, "cannot list pods")
    async with running(api) as run:
        await trio.sleep(300)
        failure = run.reflector.health.failure
        assert failure is not None
        assert "cannot list pods" in str(failure)
        del api.failing[PODS]
        await trio.sleep(31)
        assert run.told == ["v1: "]


async def test_a_kind_that_is_not_installed(autojump_clock: MockClock) -> None:
    """Looked for about once a minute; there are none of it until it comes."""
    api = FakeApi()
    async with running(api, servers()) as run:
        await trio.sleep(600)
        assert run.missing > 0
        assert len(api.requests("/apis")) <= 24  # each time twice: it may be starting
        api.served[f"{POLICY}/v1beta1"] = ["servers"]
        await trio.sleep(61)
        assert run.told == ["v1beta1: "]
        assert not run.reflector.health.is_missing


async def test_a_server_that_starts_lacks_nothing(autojump_clock: MockClock) -> None:
    """Its custom resources come after its first answers: no policy is dropped then."""
    api = FakeApi(failing={"/readyz": Failure(FailureKind.AWAY, "readyz failed")})
    async with running(api, servers()) as run:
        await trio.sleep(1)
        assert failing(run)
        api.served[f"{POLICY}/v1beta1"] = ["servers"]
        del api.failing["/readyz"]
        await trio.sleep(5)
        assert run.missing == 0
        assert run.told == ["v1beta1: "]


async def test_another_version_is_served_later(autojump_clock: MockClock) -> None:
    """After a server's upgrade the old path is gone; the newer one is found."""
    api = FakeApi()
    api.served[f"{POLICY}/v1beta1"] = ["servers"]
    async with running(api, servers()) as run:
        await trio.sleep(1)
        del api.served[f"{POLICY}/v1beta1"]
        api.served[f"{POLICY}/v1beta3"] = ["servers"]
        api.cut()
        await trio.sleep(120)
        assert run.told == ["v1beta1: ", "v1beta3: "]


async def test_discovery_that_cannot_be_read(autojump_clock: MockClock) -> None:
    """Concludes nothing: least of all that there are no policies."""

    class Broken(FakeApi):
        def _groups(self) -> bytes:
            return b"<html>"

    async with running(Broken(), servers()) as run:
        await trio.sleep(60)
        assert run.missing == 0
        failure = run.reflector.health.failure
        assert failure is not None
        assert failure.kind is FailureKind.GARBAGE
