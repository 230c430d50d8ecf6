"""
What is behind a service's address: EndpointSlices, or the pods that it selects.

Source: Kubernetes' Service and EndpointSlice. A service that has any slice takes its
backends from its slices alone, as kube-proxy does; a directory of manifests has none
as a rule, so there the selector finds the pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from agent.addresses import DeliveryAddress, IPAddress, SocketAddress
from agent.policy.problem import Problem
from agent.workload.directory import Endpoint, Peer, VirtualService
from agent.workload.model import (
    EndpointSlice,
    Service,
    ServicePort,
    SliceEndpoint,
    Workload,
)


class ServiceIndex:
    """Backends by service, over pods that hold their addresses (see claims)."""

    def __init__(
        self,
        workloads: Iterable[Workload],
        slices: Iterable[EndpointSlice],
        peers: Mapping[IPAddress, Peer],
    ) -> None:
        self._pods: dict[str, list[Workload]] = _grouped(workloads)
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
            for port in service.ports:
                for ip in service.addresses:
                    at = SocketAddress(ip, port.port)
                    if at in found:
                        self._report_second(service, at, found[at])
                        continue
                    endpoints = tuple(dict.fromkeys(self._endpoints(service, port, ip)))
                    found[at] = VirtualService(service.key, port.port, endpoints)
        return found

    def _report_second(
        self, service: Service, at: SocketAddress, holder: VirtualService
    ) -> None:
        message = f"{at} belongs to Service {holder.name}, which keeps it"
        self.problems.append(
            Problem(f"Service {service.key}", "spec.clusterIPs", message)
        )

    def _endpoints(
        self, service: Service, port: ServicePort, ip: IPAddress
    ) -> Iterator[Endpoint]:
        """Backends of the same family as `ip`; a service never changes it."""
        slices = self._slices.get((service.namespace, service.name))
        found = (
            self._from_slices(slices, port)
            if slices
            else self._from_pods(service, port)
        )
        return (at for at in found if at.address.ip.version == ip.version)

    def _from_slices(
        self, slices: Iterable[EndpointSlice], port: ServicePort
    ) -> Iterator[Endpoint]:
        for part in slices:
            numbers = [named.port for named in part.ports if named.name == port.name]
            for backend in part.endpoints:
                if not backend.ready:
                    continue
                for ip in backend.addresses:
                    peer = self._peers.get(ip)
                    if peer is not None and _is_another(backend, part.namespace, peer):
                        # The slice is behind: this address is another pod's by now.
                        continue
                    for number in numbers:
                        yield _endpoint(ip, number, peer)

    def _from_pods(self, service: Service, port: ServicePort) -> Iterator[Endpoint]:
        if not service.selector:
            return
        wanted = service.selector.items()
        for pod in self._pods.get(service.namespace, ()):
            if not wanted <= pod.labels.items():
                continue
            if not pod.ready and not service.publish_not_ready:
                continue
            number = _target(port, pod)
            if number is None:
                self._report_port(service, port, pod)
                continue
            for ip in pod.addresses:
                yield _endpoint(ip, number, self._peers.get(ip))

    def _report_port(self, service: Service, port: ServicePort, pod: Workload) -> None:
        problem = Problem(
            f"Service {service.key}",
            "spec.ports.targetPort",
            f"Pod {pod.key}, which it selects, has no TCP port named {port.target}",
        )
        if problem not in self.problems:
            self.problems.append(problem)


def _endpoint(ip: IPAddress, port: int, peer: Peer | None) -> Endpoint:
    address = DeliveryAddress(SocketAddress(ip, port))
    return Endpoint(address, peer.uid if peer else None)


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


def _grouped(workloads: Iterable[Workload]) -> dict[str, list[Workload]]:
    in_order = sorted(workloads, key=lambda pod: (pod.namespace, pod.name))
    return {
        namespace: list(pods)
        for namespace, pods in groupby(in_order, key=lambda pod: pod.namespace)
    }
