"""
What is behind a service's address: EndpointSlices, or the pods that it selects.

Source: Kubernetes' Service and EndpointSlice. A service that has any slice takes its
backends from its slices alone, as kube-proxy does; a directory of manifests has none
as a rule, so there the selector finds the pods. What narrows them, a traffic policy or
topology hints, narrows as in kube-proxy, seen from one node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final

from agent.addresses import DeliveryAddress, IPAddress, SocketAddress
from agent.memo import Memo
from agent.policy.problem import Problem
from agent.workload.directory import Endpoint, Peer, VirtualService
from agent.workload.model import (
    EndpointSlice,
    Service,
    ServicePort,
    SliceEndpoint,
    Workload,
)

# Ports times backends of one service. Without an end two small objects, a service of
# many ports and a slice of many addresses, would fill every agent's memory. Kubernetes
# is tested with 5,000 backends.
MAX_ENDPOINTS: Final = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """
    The pods of a namespace by name; `labelled` has them by each of their labels.

    `on_own_network`: each pod alone decides what its addresses lead to.
    """

    labelled: Mapping[tuple[str, str], list[Workload]]
    on_own_network: bool

    @classmethod
    def of(cls, pods: tuple[Workload, ...]) -> Group:
        labelled: dict[tuple[str, str], list[Workload]] = {}
        for pod in pods:
            for label in pod.labels.items():
                labelled.setdefault(label, []).append(pod)
        return cls(labelled, not any(pod.host_network for pod in pods))

    def selected(self, selector: Mapping[str, str]) -> Iterator[Workload]:
        """Those with every label of `selector`, which is not empty."""
        wanted = selector.items()
        fewest = min((self.labelled.get(label, []) for label in wanted), key=len)
        return (pod for pod in fewest if wanted <= pod.labels.items())


Ports = tuple[tuple[SocketAddress, VirtualService], ...]
Backend = tuple[EndpointSlice, SliceEndpoint]
_Placed = tuple[EndpointSlice, SliceEndpoint, IPAddress]
Found = tuple[Ports, tuple[Problem, ...]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the clients are: services may prefer, or demand, what is near them."""

    node: str = ""
    zone: str = ""


class ServiceMemory:
    """What need not be worked out again at the next change, of one registry."""

    def __init__(self) -> None:
        self.groups = Memo(Group.of)
        self.of_group = Memo(_of_group)
        self.of_slices = Memo(_of_slices)

    def end_round(self) -> None:
        """Forget what is not there any more."""
        for memo in (self.groups, self.of_group, self.of_slices):
            memo.end_round()


class ServiceIndex:
    """
    Backends by service, over pods that hold their addresses (see claims).

    `peers` has the pod that holds an address, `memory` what earlier indexes found;
    `place` is where the clients are.
    """

    def __init__(
        self,
        workloads: Iterable[Workload],
        slices: Iterable[EndpointSlice],
        peers: Mapping[IPAddress, Peer],
        memory: ServiceMemory | None = None,
        place: Place | None = None,
    ) -> None:
        self._memory = memory or ServiceMemory()
        self._place = place or Place()
        self._groups = {
            namespace: self._memory.groups(namespace, pods)
            for namespace, pods in _grouped(workloads).items()
        }
        self._slices: dict[tuple[str, str], list[EndpointSlice]] = {}
        for part in sorted(slices, key=lambda part: part.key):
            service = (part.namespace, part.service)
            self._slices.setdefault(service, []).append(part)
        self._peers = peers
        self.problems: list[Problem] = []

    def virtual_services(
        self, services: Iterable[Service]
    ) -> dict[SocketAddress, VirtualService]:
        """Every address and port of `services`; a second claim is a Problem."""
        found: dict[SocketAddress, VirtualService] = {}
        for service in sorted(services, key=lambda service: service.key):
            ports, problems = self._ports(service)
            self.problems += problems
            for at, made in ports:
                holder = found.setdefault(at, made)
                if holder is not made:
                    self._report_second(service, at, holder)
        return found

    def _ports(self, service: Service) -> Found:
        group = self._groups.get(service.namespace, NOBODY)
        slices = self._slices.get((service.namespace, service.name))
        if slices is not None:
            holders = tuple(self._peers.get(ip) for ip in _addresses(slices))
            return self._memory.of_slices(
                service.key, service, tuple(slices), holders, self._place
            )
        if group.on_own_network:
            return self._memory.of_group(service.key, service, group, self._place)
        # Where these lead depends on pods of other namespaces too.
        return _ports(service, _Backends(self._place, group, self._peers, None))

    def _report_second(
        self, service: Service, at: SocketAddress, holder: VirtualService
    ) -> None:
        message = f"{at} belongs to Service {holder.name}, which keeps it"
        self.problems.append(
            Problem(f"Service {service.key}", "spec.clusterIPs", message)
        )


NOBODY: Final = Group.of(())


def _of_group(service: Service, group: Group, place: Place) -> Found:
    """A service whose backends are these pods, each under its own addresses."""
    return _ports(service, _Backends(place, group, None, None))


def _of_slices(
    service: Service,
    slices: tuple[EndpointSlice, ...],
    holders: tuple[Peer | None, ...],
    place: Place,
) -> Found:
    """A service with slices; `holders` have their addresses, one by one."""
    peers = {
        ip: peer
        for ip, peer in zip(_addresses(slices), holders, strict=True)
        if peer is not None
    }
    return _ports(service, _Backends(place, NOBODY, peers, slices))


def _addresses(slices: Iterable[EndpointSlice]) -> Iterator[IPAddress]:
    for part in slices:
        for backend in part.endpoints:
            yield from backend.addresses


def _ports(service: Service, backends: _Backends) -> Found:
    made = tuple(
        (
            SocketAddress(ip, port.port),
            VirtualService(
                service.key,
                port.port,
                tuple(dict.fromkeys(backends.of(service, port, ip))),
                service.affinity_seconds,
            ),
        )
        for port in service.ports
        for ip in service.addresses
    )
    return made, tuple(dict.fromkeys(backends.problems))


@dataclass(slots=True)
class _Backends:
    """
    Where the backends of a service come from.

    `peers` None: every pod of the group holds its addresses.
    """

    place: Place
    group: Group
    peers: Mapping[IPAddress, Peer] | None
    slices: Sequence[EndpointSlice] | None
    problems: list[Problem] = field(default_factory=list)
    _places: dict[int, list[_Placed]] = field(default_factory=dict)

    def of(
        self, service: Service, port: ServicePort, ip: IPAddress
    ) -> Iterator[Endpoint]:
        """Backends of the same family as `ip`; a service never changes it."""
        if self.slices is not None:
            if ip.version not in self._places:
                found = self._usable(self.slices, service, ip.version)
                self._places[ip.version] = found
            return self._from_slices(self._places[ip.version], port)
        of_pods = self._from_pods(service, port)
        return (at for at in of_pods if at.address.ip.version == ip.version)

    def _peer_at(self, ip: IPAddress) -> Peer | None:
        assert self.peers is not None
        return self.peers.get(ip)

    def _usable(
        self, slices: Iterable[EndpointSlice], service: Service, version: int
    ) -> list[_Placed]:
        """The backends of one family, as many as a service of these ports may have."""
        backends = [(part, backend) for part in slices for backend in part.endpoints]
        family = [
            (part, backend)
            for part, backend in backends
            if any(ip.version == version for ip in backend.addresses)
        ]
        found = [
            (part, backend, ip)
            for part, backend in self._chosen(service, family)
            for ip in backend.addresses
            if ip.version == version
        ]
        most = max(1, MAX_ENDPOINTS // len(service.ports))
        if len(found) > most:
            text = f"has {len(found)} IPv{version} backends; the first {most} are used"
            self.problems.append(Problem(f"Service {service.key}", "", text))
        return found[:most]

    def _from_slices(
        self, places: Iterable[_Placed], port: ServicePort
    ) -> Iterator[Endpoint]:
        for part, backend, ip in places:
            peer = self._peer_at(ip)
            if peer is not None and _is_another(backend, part.namespace, peer):
                # The slice is behind: this address is another pod's by now.
                continue
            ports = part.ports if backend.ports is None else backend.ports
            for named in ports:
                if named.name == port.name:
                    yield _endpoint(ip, named.port, peer.uid if peer else None)

    def _chosen(self, service: Service, backends: list[Backend]) -> list[Backend]:
        """
        Those that clients here are meant to use.

        `internalTrafficPolicy: Local` demands this node and no other. Of these the
        ready ones; where there is none, those that end and still serve, without
        regard to hints (KEP-1669, as kube-proxy).
        """
        if service.local_only:
            backends = [each for each in backends if each[1].node == self.place.node]
        ready = [each for each in backends if each[1].ready]
        if not ready:
            return [each for each in backends if each[1].draining]
        return ready if service.local_only else self._near(ready)

    def _near(self, ready: list[Backend]) -> list[Backend]:
        """
        Topology hints count when every ready backend has one, and one of them is for
        our zone: otherwise the cluster is between two states of them, or has none for
        us.
        """
        hinted = [each for each in ready if self.place.zone in each[1].zones]
        if self.place.zone and hinted and all(each[1].zones for each in ready):
            return hinted
        return ready

    def _from_pods(self, service: Service, port: ServicePort) -> Iterator[Endpoint]:
        if not service.selector:
            return
        for pod in self.group.selected(service.selector):
            if not pod.ready and not service.publish_not_ready:
                continue
            if service.local_only and pod.node != self.place.node:
                continue
            number = _target(port, pod)
            if number is None:
                self.problems.append(_no_such_port(service, port, pod))
                continue
            for ip in pod.addresses:
                yield _endpoint(ip, number, self._uid_at(ip, pod))

    def _uid_at(self, ip: IPAddress, pod: Workload) -> str | None:
        if self.peers is None:
            return pod.uid
        peer = self._peer_at(ip)
        return peer.uid if peer else None


def _no_such_port(service: Service, port: ServicePort, pod: Workload) -> Problem:
    return Problem(
        f"Service {service.key}",
        "spec.ports.targetPort",
        f"Pod {pod.key}, which it selects, has no TCP port named {port.target}",
    )


def _endpoint(ip: IPAddress, port: int, uid: str | None) -> Endpoint:
    return Endpoint(DeliveryAddress(SocketAddress(ip, port)), uid)


def _is_another(backend: SliceEndpoint, namespace: str, peer: Peer) -> bool:
    """Whether the slice names a pod, and not the one that holds the address."""
    if backend.pod_uid is not None:
        return backend.pod_uid != peer.uid
    if backend.pod_name is not None:
        return f"{namespace}/{backend.pod_name}" != peer.name
    return False


def _target(port: ServicePort, pod: Workload) -> int | None:
    """The pod's own port behind `port`; None where it has none of that name."""
    if isinstance(port.target, int):
        return port.target
    return next((named.port for named in pod.ports if named.name == port.target), None)


def _grouped(workloads: Iterable[Workload]) -> dict[str, tuple[Workload, ...]]:
    in_order = sorted(workloads, key=attrgetter("namespace", "name"))
    return {
        namespace: tuple(pods)
        for namespace, pods in groupby(in_order, key=attrgetter("namespace"))
    }
