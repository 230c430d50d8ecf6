"""
The API server as the source of objects: the same Change as a directory of manifests.

Nothing is said before every resource has been listed once: without its policies a pod
would be captured open, and without the pods everybody is a stranger. From then on what
was heard last is in force, however long the API server is away.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

import trio

from agent.addresses import IPAddress
from agent.kube.conditions import Finding
from agent.kube.discovery import Discovery
from agent.kube.manifests import Change, collect
from agent.kube.reflector import Api, News, Reflector
from agent.kube.resources import (
    ALL_PODS,
    MESHED_PODS,
    NAMESPACES,
    OWN_PODS,
    Resource,
    Served,
)
from agent.kube.store import Entry, Store, merged
from agent.kube.trim import Trim, authorized_pod, far_pod, namespace, own_pod, policy
from agent.policy.problem import Problem
from agent.workload.model import Workload

# Events come in bursts: a rollout, a node that comes back. One look for all of them.
GAP_SECONDS: Final = 0.05
# And where looking takes long, because there is much, a fifth of the time at most.
REST: Final = 4.0
# A watch that is taken up again at once is no outage.
PATIENCE_SECONDS: Final = 5.0

_TRIMS: Final[dict[str, Trim]] = {
    OWN_PODS: own_pod,
    MESHED_PODS: far_pod,
    ALL_PODS: authorized_pod,
    NAMESPACES: namespace,
}

NetnsOf = Callable[[str], str | None]
AddressesOf = Callable[[str], tuple[IPAddress, ...]]


def nowhere(_uid: str) -> str | None:
    """For a process that captures no pods."""
    return None


def unaddressed(_uid: str) -> tuple[IPAddress, ...]:
    """For a process that captures no pods."""
    return ()


class Source:
    """Some resources of one API server, kept current."""

    def __init__(
        self,
        api: Api,
        resources: Iterable[Resource],
        *,
        chance: Callable[[], float],
        clock: Callable[[], float] = time.time,
        netns_of: NetnsOf = nowhere,
        addresses_of: AddressesOf = unaddressed,
        agent: str | None = None,
    ) -> None:
        """
        `agent`: NAMESPACE/NAME of the ServiceAccount of agents, of which one is in the
        list of this node's pods as long as we run.
        `netns_of`: where the network namespace of a pod of this node is, by uid.
        `addresses_of`: the addresses found in it, for as long as its status has none.
        """
        self._clock = clock
        self._netns_of = netns_of
        self._addresses_of = addresses_of
        self._news = trio.Event()
        self._stores: dict[str, Store] = {}
        self._reflectors: list[Reflector] = []
        discovery = Discovery(api)
        for resource in resources:
            needs = None
            if agent and resource.name == OWN_PODS:
                needs = partial(_is_of_account, agent)
            store = Store(_TRIMS.get(resource.name, policy), needs)
            self._stores[resource.name] = store
            reflector = Reflector(
                *(api, resource),
                partial(self._hear, store),
                partial(self._hear_missing, store),
                self.touch,
                *(chance, clock),
                discovery=discovery,
            )
            self._reflectors.append(reflector)

    async def run(
        self,
        on_change: Callable[[Change], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Call `on_change` once all has been listed, and after changes; for ever."""
        async with trio.open_nursery() as nursery:
            for reflector in self._reflectors:
                nursery.start_soon(reflector.run)
            task_status.started()
            last: Change | None = None
            while True:
                await self._news.wait()
                self._news = trio.Event()
                if not self.is_synced:
                    continue
                # CPU time: on a busy node what others do is no reason to be late.
                started = time.thread_time()
                change = self.change()
                if change != last:
                    on_change(change)
                    last = change
                spent = time.thread_time() - started
                await trio.sleep(max(GAP_SECONDS, REST * spent))

    @property
    def is_synced(self) -> bool:
        """Whether every resource has been listed once, or is known not to be there."""
        return all(store.synced for store in self._stores.values())

    def touch(self) -> None:
        """Something may differ, such as a network namespace that was found."""
        self._news.set()

    def change(self) -> Change:
        """What is in force now, and what is wrong now."""
        found = merged(self._stores.values())
        own = {pod.uid for pod in self.own_pods()}
        pods = (each for each in found.values() if isinstance(each, Workload))
        claimed = {ip for pod in pods if not pod.finished for ip in pod.addresses}
        values = [
            self._placed(value, claimed)
            if isinstance(value, Workload) and value.uid in own
            else value
            for value in found.values()
        ]
        lost = {key for store in self._stores.values() for key in store.lost}
        problems = [
            problem for store in self._stores.values() for problem in store.problems
        ]
        outages = [Problem("API server", "", text) for text in self.faults()]
        doubts = [
            Problem(f"API server: {name}", "", f"{store.doubt}; these stay for now")
            for name, store in self._stores.items()
            if store.doubt is not None
        ]
        everything = (*outages, *doubts, *problems)
        return Change(collect(values, lost), everything, complete=not doubts)

    def own_pods(self) -> list[Workload]:
        """The pods of this node, meshed or not."""
        store = self._stores.get(OWN_PODS)
        entries = store.entries.values() if store else ()
        return [e.value for e in entries if isinstance(e.value, Workload)]

    def policies(self) -> list[Finding]:
        """Every policy with what its status says; for who writes into it."""
        return [found for store in self._stores.values() for found in store.findings]

    def missing(self) -> list[str]:
        """Why there is no Change yet, or not the latest: for people."""
        waiting = [
            f"{reflector.resource.name}: not listed yet"
            for reflector in self._reflectors
            if not self._stores[reflector.resource.name].synced
            and reflector.health.failure is None
        ]
        return [*self.faults(patience_seconds=0.0), *waiting]

    def not_installed(self) -> list[str]:
        """Kinds that the server does not have, so that there are no objects of them."""
        return [
            reflector.resource.name
            for reflector in self._reflectors
            if reflector.health.is_missing
        ]

    def faults(self, patience_seconds: float = PATIENCE_SECONDS) -> list[str]:
        """What cannot be watched now, and why; of one reason one line."""
        names: dict[str, list[str]] = {}
        since: dict[str, float] = {}
        for reflector in self._reflectors:
            health = reflector.health
            if health.failure is None or health.is_missing:
                continue
            if self._clock() - health.since < patience_seconds:
                continue
            reason = str(health.failure)
            names.setdefault(reason, []).append(reflector.resource.name)
            since[reason] = min(health.since, since.get(reason, math.inf))
        return [
            f"{reason} ({', '.join(names[reason])}; since {_iso(since[reason])}); "
            + self._consequence(names[reason])
            for reason in names
        ]

    def _consequence(self, names: Iterable[str]) -> str:
        if all(self._stores[name].synced for name in names):
            return "what was heard before stays in force, what is new waits"
        return "no pod joins the mesh before that"

    def _placed(self, pod: Workload, claimed: Set[IPAddress]) -> Workload:
        """
        A pod of this node with its namespace, and with the addresses found there.

        The kubelet tells a pod's address when its containers run already. What the
        namespace itself says counts until then, unless it is `claimed`: somebody's by
        the API server's word, who else could be robbed of it.
        """
        if pod.host_network or pod.static or pod.finished:
            return pod
        netns = self._netns_of(pod.uid)
        if netns is None:
            return pod
        addresses = pod.addresses or tuple(
            ip for ip in self._addresses_of(pod.uid) if ip not in claimed
        )
        return replace(pod, netns=netns, addresses=addresses)

    def _hear(self, store: Store, event: News, served: Served) -> str | None:
        if store.apply(event, served):
            self.touch()
        return store.doubt

    def _hear_missing(self, store: Store) -> None:
        if store.clear():
            self.touch()


def _is_of_account(account: str, entry: Entry) -> bool:
    pod = entry.value
    if not isinstance(pod, Workload):
        return False
    return f"{pod.namespace}/{pod.service_account}" == account


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
