"""
From all objects to what this node does: enrolment, identities, policies, directory.

`apply` looks at everything at every change, so there is no partial state to get wrong.
It remembers which pod holds which address and network namespace (see claims), and
results whose inputs are equal to the last ones (see agent.memo): those come out as the
same object, and cost next to nothing here and wherever they are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent.addresses import IPAddress
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.memo import Memo
from agent.policy.compiler import InboundDefaults
from agent.policy.problem import Problem
from agent.policy.rule import InboundPolicy
from agent.workload.claims import settle
from agent.workload.directory import Directory, Peer
from agent.workload.model import Namespace, Objects, Workload, derived_uid
from agent.workload.policies import PolicyBook, Rules
from agent.workload.running import Running
from agent.workload.services import Place, ServiceIndex, ServiceMemory

MESH_LABEL: Final = "podlock.io/mesh"
_MESH_VALUES: Final = {"enabled": True, "disabled": False}


@dataclass(frozen=True, slots=True)
class NodeView:
    """
    What one node makes of the objects.

    `pods`: this node's enrolled pods by uid. They have a network namespace of their
    own and hold their `addresses` alone; a pod that holds none is here too, so that
    nothing leaves it in plaintext. `policies` and `identities` are theirs.
    `workloads`: every pod that runs, on any node, by key; meshed or not.
    `policy_problems` are those of `problems` that every node finds: of policies alone.
    `unplaced` are to be enrolled too, by uid, once they have a namespace that is known
    and no other pod's.
    """

    pods: Mapping[str, Workload]
    policies: Mapping[str, InboundPolicy]
    directory: Directory
    identities: frozenset[SpiffeId]
    problems: tuple[Problem, ...]
    workloads: tuple[Workload, ...] = ()
    unplaced: frozenset[str] = frozenset()
    policy_problems: tuple[Problem, ...] = ()


class Registry:
    """
    The objects in force, seen from `node`.

    `by_mark`: a peer takes HBONE when its node's agent says so, and not by its label.
    """

    def __init__(
        self,
        node: str,
        trust_domain: TrustDomain,
        defaults: InboundDefaults | None = None,
        *,
        by_mark: bool = False,
    ) -> None:
        self._by_mark = by_mark
        self._node = node
        self._trust_domain = trust_domain
        self._defaults = defaults or InboundDefaults()
        self._addresses: dict[IPAddress, str] = {}
        self._namespaces: dict[str, str] = {}
        self._running = Running(trust_domain)
        self._known: Mapping[str, Namespace] = {}
        self._rules = Rules()
        self._book = PolicyBook(trust_domain, self._defaults)
        self._settled = Memo(_settled)
        self._peers = Memo(self._peer)
        self._compiled = Memo(self._book.compile)
        self._services = ServiceMemory()

    @property
    def pods(self) -> int:
        """How many pods are known, on any node."""
        return self._running.pods

    def runs_on(self, node: str, identity: SpiffeId) -> bool:
        """Whether `node` runs a pod that is `identity`; never by the host network."""
        return self._running.runs_on(node, identity)

    def apply(self, objects: Objects, staying: Collection[str] = ()) -> NodeView:
        """
        The view of `objects`, in whatever order they come.

        `staying`: uids and keys of pods that stay in the mesh, whatever their labels
        and those of their namespace say now.
        """
        problems: list[Problem] = []
        self._known = namespaces = {item.name: item for item in objects.namespaces}
        workloads = self._workloads(objects.workloads, namespaces, staying, problems)
        self._running.apply(workloads)
        directory = self._directory(workloads, objects, problems)
        pods = self._enrolled(workloads, problems)
        placed = {pod.uid: pod for pod in pods}
        policies = self._policies(pods, namespaces, objects, problems)
        for memory in (self._settled, self._peers, self._compiled, self._services):
            memory.end_round()
        return NodeView(
            pods=placed,
            policies=policies,
            directory=directory,
            identities=frozenset(pod.identity(self._trust_domain) for pod in pods),
            problems=tuple(dict.fromkeys(problems)),
            workloads=tuple(workloads),
            policy_problems=self._rules.problems,
            unplaced=frozenset(
                pod.uid
                for pod in workloads
                if pod.meshed and pod.node == self._node and pod.uid not in placed
            ),
        )

    def federate(
        self, view: NodeView, objects: Objects, federated: frozenset[TrustDomain]
    ) -> NodeView:
        """
        The view of the same `objects` while these foreign trust domains are known:
        nothing but warnings differs.
        """
        self._book.federate(federated)
        self._rules = self._book.rules(objects)
        gone, new = set(view.policy_problems), self._rules.problems
        others = (each for each in view.problems if each not in gone)
        problems = tuple(dict.fromkeys((*others, *new)))
        return replace(view, policy_problems=new, problems=problems)

    def policy_of(self, pod: Workload) -> InboundPolicy:
        """
        What judges connections to a pod of the last view, on whichever node it runs.
        """
        namespace = self._known.get(pod.namespace)
        policy, _ = self._book.compile(pod, namespace, self._rules)
        return policy

    def _workloads(
        self,
        parsed: Iterable[Workload],
        namespaces: Mapping[str, Namespace],
        staying: Collection[str],
        problems: list[Problem],
    ) -> list[Workload]:
        """Pods that run, by key: one uid each, meshed or not, with what they hold."""
        for namespace in sorted(namespaces.values(), key=lambda item: item.name):
            _check_label(f"Namespace {namespace.name}", namespace.labels, problems)
        running: dict[str, tuple[Workload, bool]] = {}
        for pod in sorted(parsed, key=lambda pod: pod.key):
            if pod.finished:
                continue
            _check_label(f"Pod {pod.key}", pod.labels, problems)
            uid = pod.uid
            if uid in running:
                uid = derived_uid(pod.namespace, pod.name)
                message = f"is also the uid of Pod {running[pod.uid][0].key}; not used"
                problems.append(Problem(f"Pod {pod.key}", "metadata.uid", message))
            stays = uid in staying or pod.key in staying
            meshed = _is_meshed(pod, namespaces.get(pod.namespace), stays)
            running[uid] = pod, meshed
        return self._with_held_addresses(running, problems)

    def _with_held_addresses(
        self, running: Mapping[str, tuple[Workload, bool]], problems: list[Problem]
    ) -> list[Workload]:
        claims = (
            (ip, pod)
            for pod, _ in running.values()
            if not pod.host_network
            for ip in pod.addresses
        )
        self._addresses, contests = settle(claims, self._addresses)
        for contest in contests:
            message = (
                f"{contest.thing} belongs to Pod {contest.holder.key}; "
                f"this pod cannot be reached by it"
            )
            problems.append(
                Problem(f"Pod {contest.loser.key}", "status.podIPs", message)
            )
        losers = {contest.loser.key for contest in contests}
        return [
            self._settled(
                pod.key, pod, uid, meshed, self._held_by(pod, pod.key in losers)
            )
            for uid, (pod, meshed) in running.items()
        ]

    def _held_by(self, pod: Workload, loses_some: bool) -> tuple[IPAddress, ...]:
        if pod.host_network or (not pod.addresses[1:] and not loses_some):
            return pod.addresses
        addresses = dict.fromkeys(pod.addresses)
        return tuple(ip for ip in addresses if self._addresses[ip] == pod.key)

    def _directory(
        self, workloads: list[Workload], objects: Objects, problems: list[Problem]
    ) -> Directory:
        peers = {
            ip: self._peers(pod.uid, pod)
            for pod in workloads
            if not pod.host_network
            for ip in pod.addresses
        }
        zones = {node.name: node.zone for node in objects.nodes}
        place = Place(self._node, zones.get(self._node, ""))
        slices, memory = objects.endpoint_slices, self._services
        index = ServiceIndex(workloads, slices, peers, memory, place)
        services = index.virtual_services(objects.services)
        problems += index.problems
        owned = frozenset(ip for item in objects.services for ip in item.addresses)
        return Directory(peers, services, owned)

    def _peer(self, pod: Workload) -> Peer:
        return Peer(
            uid=pod.uid,
            name=pod.key,
            identity=pod.identity(self._trust_domain),
            addresses=pod.addresses,
            meshed=pod.marked if self._by_mark else pod.meshed,
            node=pod.node,
        )

    def _enrolled(
        self, workloads: list[Workload], problems: list[Problem]
    ) -> list[Workload]:
        """This node's meshed pods, each with a network namespace of its own."""
        claims: list[tuple[str, Workload]] = []
        for pod in workloads:
            if not pod.meshed:
                continue
            if not pod.node and pod.netns is not None:
                fault = "is missing, so the pod is on no node and not enrolled"
                problems.append(Problem(f"Pod {pod.key}", "spec.nodeName", fault))
            elif pod.node == self._node and pod.netns is None:
                fault = "no network namespace is known, so the pod is not enrolled"
                problems.append(Problem(f"Pod {pod.key}", "", fault))
            elif pod.node == self._node and pod.netns is not None:
                claims.append((pod.netns, pod))
        self._namespaces, contests = settle(claims, self._namespaces)
        for contest in contests:
            message = (
                f"network namespace {contest.thing} belongs to Pod "
                f"{contest.holder.key}; this pod is not enrolled"
            )
            problems.append(Problem(f"Pod {contest.loser.key}", "", message))
        return [pod for netns, pod in claims if self._namespaces[netns] == pod.key]

    def _policies(
        self,
        pods: list[Workload],
        namespaces: Mapping[str, Namespace],
        objects: Objects,
        problems: list[Problem],
    ) -> dict[str, InboundPolicy]:
        book = self._book
        rules = self._rules = book.rules(objects)
        problems += rules.problems
        policies: dict[str, InboundPolicy] = {}
        for pod in pods:
            namespace = namespaces.get(pod.namespace)
            made = self._compiled(pod.uid, pod, namespace, rules)
            policies[pod.uid], faults = made
            problems += faults
        book.end_round()
        return policies


def _settled(
    pod: Workload, uid: str, meshed: bool, addresses: tuple[IPAddress, ...]
) -> Workload:
    return replace(pod, uid=uid, meshed=meshed, addresses=addresses)


def _is_meshed(pod: Workload, namespace: Namespace | None, stays: bool) -> bool:
    """
    The pod's own label wins over its namespace's, and that it `stays` over both.

    Pods on the host's network and static ones never are.
    """
    if pod.host_network or pod.static:
        return False
    if stays:
        return True
    by_namespace = namespace.labels.get(MESH_LABEL, "") if namespace else ""
    inherited = _MESH_VALUES.get(by_namespace, False)
    return _MESH_VALUES.get(pod.labels.get(MESH_LABEL, ""), inherited)


def _check_label(
    title: str, labels: Mapping[str, str], problems: list[Problem]
) -> None:
    value = labels.get(MESH_LABEL)
    if value is not None and value not in _MESH_VALUES:
        message = f"{value[:80]!r} has no effect; expected enabled or disabled"
        problems.append(Problem(title, f"metadata.labels[{MESH_LABEL}]", message))
