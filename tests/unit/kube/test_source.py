"""The source tells of everything or of nothing, and keeps what it had."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import trio
from trio.testing import MockClock

from agent.kube.failure import Failure, FailureKind
from agent.kube.manifests import Change
from agent.kube.resources import of_node
from agent.kube.source import Source
from tests.unit.kube.fakes import AWAY, FakeApi, pod

PODS = "/api/v1/pods"


class Run:
    def __init__(self, api: FakeApi, places: dict[str, str]) -> None:
        self.changes: list[Change] = []
        self.source = Source(
            api,
            of_node("n1"),
            chance=lambda: 1.0,
            clock=trio.current_time,
            netns_of=places.get,
        )

    @property
    def pods(self) -> dict[str, str | None]:
        """The pods of the last change, and their network namespaces."""
        found = self.changes[-1].objects.workloads
        return {pod.name: pod.netns for pod in found}


@asynccontextmanager
async def running(
    api: FakeApi, places: dict[str, str] | None = None
) -> AsyncIterator[Run]:
    run = Run(api, {} if places is None else places)
    async with trio.open_nursery() as nursery:
        await nursery.start(run.source.run, run.changes.append)
        await trio.sleep(1)
        yield run
        nursery.cancel_scope.cancel()


async def test_nothing_is_told_before_all_is_known(autojump_clock: MockClock) -> None:
    """A pod without its policies would be open; the reason says what is missing."""
    api = FakeApi()
    api.failing["/api/v1/services"] = Failure(
        FailureKind.FORBIDDEN, "services is forbidden"
    )
    async with running(api) as run:
        await trio.sleep(60)
        assert run.changes == []
        (reason,) = run.source.missing()
        assert "does not permit it: services is forbidden (services;" in reason
        assert "no pod joins the mesh before that" in reason
        del api.failing["/api/v1/services"]
        await trio.sleep(31)
        assert len(run.changes) == 1
        assert run.source.missing() == []


async def test_an_api_server_that_is_away_from_the_start(
    autojump_clock: MockClock,
) -> None:
    """One reason for all of it."""
    api = FakeApi(failing={"": AWAY})
    async with running(api) as run:
        (reason,) = run.source.missing()
        assert reason.startswith("the API server cannot be reached: Connection refused")
        assert "pods of this node" in reason
        assert "namespaces" in reason


async def test_an_hour_without_the_api_server(autojump_clock: MockClock) -> None:
    """All stays in force; it is said that what is new waits, once; then it comes."""
    api = FakeApi()
    api.put(PODS, pod("web", "n1", "10.1.0.1"))
    async with running(api) as run:
        before = run.changes[-1].objects
        api.failing[""] = AWAY
        api.cut()
        await trio.sleep(3600)
        assert run.changes[-1].objects == before
        (problem,) = run.changes[-1].problems
        assert "what was heard before stays in force" in problem.message
        assert "what is new waits" in problem.message
        assert len(run.changes) <= 4
        assert len(run.source.missing()) == 1
        del api.failing[""]
        await trio.sleep(60)
        assert run.changes[-1].problems == ()
        api.put(PODS, pod("late", "n1", "10.1.0.2"))
        await trio.sleep(1)
        assert sorted(run.pods) == ["late", "web"]


async def test_an_api_server_that_lost_its_data(autojump_clock: MockClock) -> None:
    """An empty list is asked for again, and reported; nothing goes before that."""
    api = FakeApi()
    api.put(PODS, pod("web", "n1"))
    async with running(api) as run:
        kept = dict(api.objects[PODS])
        api.objects[PODS].clear()
        api.failing[PODS] = Failure(FailureKind.EXPIRED, "gone")
        api.cut()
        await trio.sleep(0.1)
        del api.failing[PODS]
        await trio.sleep(3)
        assert run.pods == {"web": None}
        last = run.changes[-1]
        assert not last.complete
        said = "\n".join(map(str, last.problems))
        assert "the list is empty, and 1 objects were known" in said
        assert any("is not believed" in why for why in run.source.missing())
        api.objects[PODS].update(kept)  # the backup is there
        await trio.sleep(30)
        assert run.pods == {"web": None}
        assert run.changes[-1].complete
        assert run.source.missing() == []


async def test_a_list_that_stays_empty_is_believed(autojump_clock: MockClock) -> None:
    api = FakeApi()
    api.put(PODS, pod("web", "n1"))
    async with running(api) as run:
        api.objects[PODS].clear()
        api.failing[PODS] = Failure(FailureKind.EXPIRED, "gone")
        api.cut()
        await trio.sleep(0.1)
        del api.failing[PODS]
        await trio.sleep(30)
        assert run.pods == {}
        assert run.changes[-1].complete


async def test_a_burst_is_one_change(autojump_clock: MockClock) -> None:
    """A rollout of a thousand pods is not looked at a thousand times."""
    api = FakeApi()
    async with running(api) as run:
        before = len(run.changes)
        for number in range(400):
            api.put(PODS, pod(f"web-{number}", "n1"))
        await trio.sleep(1)
        assert len(run.pods) == 400
        assert len(run.changes) - before <= 3


async def test_where_a_pod_lives_comes_from_the_node(autojump_clock: MockClock) -> None:
    """By its uid, when it is found, and never from an annotation."""
    api, places = FakeApi(), dict[str, str]()
    evil = {"podlock.io/netns": "/run/netns/victim"}
    api.put(PODS, pod("web", "n1", "10.1.0.1", annotations=evil))
    async with running(api, places) as run:
        assert run.pods == {"web": None}
        places["u-web"] = "/proc/7/ns/net"
        run.source.touch()
        await trio.sleep(1)
        assert run.pods == {"web": "/proc/7/ns/net"}
        assert [each.name for each in run.source.own_pods()] == ["web"]


async def test_annotations_of_a_namespace_have_an_end(
    autojump_clock: MockClock,
) -> None:
    """Whoever may annotate one could fill the memory of every agent."""
    api, policy = FakeApi(), {"config.linkerd.io/default-inbound-policy": "deny"}
    small = {**policy, "example.com/x": "x"}
    large = {**policy, "example.com/x": "x" * 200_000}
    for name, written in (("large", large), ("small", small)):
        meta = {"name": name, "annotations": written}
        api.put("/api/v1/namespaces", {"metadata": meta})
    async with running(api) as run:
        found = run.changes[-1].objects.namespaces
        kept = {each.name: each.annotations for each in found}
        assert kept == {"large": policy, "small": small}
        (told,) = run.changes[-1].problems
        assert "podlock authz suggest leaves them out" in told.message


async def test_two_pods_with_one_address(autojump_clock: MockClock) -> None:
    """During churn both are told; who holds it is for the registry."""
    api = FakeApi()
    async with running(api) as run:
        api.put(PODS, pod("old", "n1", "10.1.0.1"))
        api.put(PODS, pod("new", "n1", "10.1.0.1"))
        await trio.sleep(1)
        assert sorted(run.pods) == ["new", "old"]


async def test_a_broken_object_breaks_nothing_else(autojump_clock: MockClock) -> None:
    """It is named, and the others are told."""
    api = FakeApi()
    api.put(PODS, pod("web", "n1", "10.1.0.1"))
    async with running(api) as run:
        api.put(PODS, pod("odd", "n1", "not an address"))
        await trio.sleep(1)
        assert sorted(run.pods) == ["web"]
        assert [p.object for p in run.changes[-1].problems] == [
            "API server: Pod shop/odd"
        ]


async def test_addresses_before_the_kubelet_tells_them(
    autojump_clock: MockClock,
) -> None:
    """What the namespace has counts, unless it is another's or the status has some."""
    api = FakeApi()
    mine, others = ip_address("10.1.0.9"), ip_address("10.1.0.8")
    meshed = {"podlock.io/tunnel": "hbone"}
    api.put(PODS, pod("far", "n2", str(others), labels=meshed))
    early = pod("early", "n1")
    early["status"] = {}
    api.put(PODS, early)
    source = Source(
        api,
        of_node("n1"),
        chance=lambda: 1.0,
        clock=trio.current_time,
        netns_of=lambda _uid: "/proc/self/fd/9",
        addresses_of=lambda _uid: (mine, others),
    )
    changes: list[Change] = []

    def addresses() -> tuple[object, ...]:
        found = {w.name: w.addresses for w in changes[-1].objects.workloads}
        return found["early"]

    async with trio.open_nursery() as nursery:
        await nursery.start(source.run, changes.append)
        await trio.sleep(1)
        assert addresses() == (mine,)
        early["status"] = {"podIP": "10.1.0.7"}
        api.put(PODS, early)
        await trio.sleep(1)
        assert addresses() == (ip_address("10.1.0.7"),)
        nursery.cancel_scope.cancel()
