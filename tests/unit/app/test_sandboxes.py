"""Pods of this node get their namespaces, and give them back after they are gone."""

from __future__ import annotations

from collections.abc import Set
from ipaddress import ip_address

import trio
from trio.testing import MockClock

from agent.addresses import IPAddress
from agent.app.sandboxes import CLOSE_SECONDS, Sandboxes
from agent.kube.manifests import Change
from agent.kube.resources import of_node
from agent.kube.source import Source
from agent.redirect.pod_netns import PodNamespaces
from tests.unit.kube.fakes import FakeApi, pod

PODS = "/api/v1/pods"


class FakeNamespaces(PodNamespaces):
    """Knows at once what a test puts into it."""

    def __init__(self) -> None:
        self.there: dict[str, str] = {}
        self.known: dict[str, str] = {}
        self.looked: list[tuple[float, frozenset[str]]] = []
        self.kept: set[str] = set()
        self.found_addresses: tuple[IPAddress, ...] = ()

    def path(self, uid: str) -> str | None:
        return self.known.get(uid)

    def addresses(self, uid: str) -> tuple[IPAddress, ...]:
        return self.found_addresses if uid in self.known else ()

    def look(self, uids: Set[str], *, everywhere: bool = True) -> bool:
        self.looked.append((trio.current_time(), frozenset(uids)))
        before = dict(self.known)
        self.known |= {u: path for u, path in self.there.items() if u in uids}
        return self.known != before

    def keep(self, uids: object) -> None:
        assert isinstance(uids, set)
        self.kept = uids


async def test_from_sandbox_to_capture(autojump_clock: MockClock) -> None:
    """Closely while one is missing, calmly afterwards; gone pods are let go last."""
    api, namespaces = FakeApi(), FakeNamespaces()
    source = Source(
        api,
        of_node("n1"),
        chance=lambda: 1.0,
        clock=trio.current_time,
        netns_of=namespaces.path,
        addresses_of=namespaces.addresses,
    )
    changes: list[Change] = []
    kept_when_told: list[set[str]] = []

    def told(change: Change) -> None:
        changes.append(change)
        kept_when_told.append(namespaces.kept)

    async with trio.open_nursery() as nursery:
        await nursery.start(Sandboxes(source, namespaces).run, told)
        await trio.sleep(1)
        document = pod("web", "n1")
        document["status"] = {}
        api.put(PODS, document)
        await trio.sleep(1)
        (web,) = changes[-1].objects.workloads
        assert (web.netns, web.addresses) == (None, ())
        made = trio.current_time()
        namespaces.there[web.uid] = "/proc/self/fd/9"
        namespaces.found_addresses = (ip_address("10.1.0.9"),)
        await trio.sleep(0.2)
        (web,) = changes[-1].objects.workloads
        assert (web.netns, web.addresses) == (
            "/proc/self/fd/9",
            (ip_address("10.1.0.9"),),
        )
        found = next(at for at, uids in namespaces.looked if uids and at >= made)
        assert found - made <= CLOSE_SECONDS
        looks = len(namespaces.looked)
        await trio.sleep(10)
        assert len(namespaces.looked) - looks <= 21
        api.delete(PODS, "web")
        await trio.sleep(1)
        assert changes[-1].objects.workloads == ()
        assert kept_when_told[-1] == {web.uid}
        assert namespaces.kept == set()
        nursery.cancel_scope.cancel()
