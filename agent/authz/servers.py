"""
The pods behind a Service: where a connection to one of its ports arrives. Pure.

By the index that agents use, whatever kind of Service it is: the clients of a headless
one get its pods' addresses from DNS, those of an ordinary one its own address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from agent.addresses import IPAddress
from agent.authz.survey import Survey
from agent.errors import InputError
from agent.workload.directory import Endpoint
from agent.workload.model import Service, SliceEndpoint, Workload
from agent.workload.services import ServiceIndex

# Backends are found for a Service's own addresses; these stand for those that a
# headless one, or one in a repository, has not.
_ANY: Final = (ipaddress.IPv4Address(0), ipaddress.IPv6Address(0))


class NoSuchParty(InputError):
    """A name that names no pod or Service, or more than one."""


@dataclass(frozen=True, slots=True)
class Server:
    """A pod that is asked for, on the port that its application listens on."""

    pod: Workload
    port: int
    address: IPAddress | None = None


def behind(service: Service, port: int, survey: Survey) -> list[Server]:
    """
    A Service's pods: the backends that agents use, then those without address.

    Raises: NoSuchParty where there is no pod, with what is there instead.
    """
    if service.external_name is not None:
        raise NoSuchParty(
            f"Service {service.key} is an ExternalName: DNS answers with "
            f"{service.external_name or 'nothing'}, and no pod is behind it; ask with "
            f"--to about the pod, Service or address that this name leads to"
        )
    asked = _with_port(service, port)
    endpoints = _endpoints(asked, port, survey)
    found: dict[str, Server] = {}
    for endpoint in endpoints:
        pod = _pod_at(endpoint, asked, survey)
        if pod is not None:
            found.setdefault(pod.key, Server(pod, endpoint.address.port))
    for pod in _selected(asked, survey):
        if pod.key not in found and not pod.addresses:
            for number in _target_ports(asked, port, pod):
                found[pod.key] = Server(pod, number)
    if not found:
        raise NoSuchParty(_why_no_pod(asked, port, endpoints, survey))
    return list(found.values())


def _with_port(service: Service, port: int) -> Service:
    """
    The Service with this port. Raises: NoSuchParty.

    Nothing translates the port of a headless one, so its pods' own ports count too.
    """
    if any(each.port == port for each in service.ports):
        return service
    own = [each for each in service.ports if each.target == port]
    if service.headless and own:
        return replace(service, ports=(replace(own[0], port=port),))
    ports = ", ".join(str(each.port) for each in service.ports) or "none"
    raise NoSuchParty(f"Service {service.key} has no port {port}, only {ports}")


def _endpoints(service: Service, port: int, survey: Survey) -> list[Endpoint]:
    """Its backends, seen from no node in particular."""
    objects = survey.objects
    index = ServiceIndex(
        (
            pod
            for pod in survey.workloads.values()
            if pod.namespace == service.namespace
        ),
        (
            each
            for each in objects.endpoint_slices
            if each.key_of_service == service.key
        ),
        survey.directory.peers,
    )
    ports = tuple(each for each in service.ports if each.port == port)
    anywhere = replace(service, addresses=_ANY, ports=ports, local_only=False)
    made = index.virtual_services([anywhere]).values()
    return list(dict.fromkeys(endpoint for each in made for endpoint in each.endpoints))


def _pod_at(endpoint: Endpoint, service: Service, survey: Survey) -> Workload | None:
    """
    The pod behind an address: who holds it, or a pod of the host network, which
    shares its node's address.
    """
    ip = endpoint.address.ip
    peer = survey.directory.peer_at(ip)
    if peer is not None:
        return survey.workloads[peer.name]
    named = [
        f"{service.namespace}/{each.pod_name}"
        for each in _backends_at(ip, service, survey)
        if each.pod_name is not None
    ]
    pods = [survey.workloads[key] for key in named if key in survey.workloads]
    pods += (
        pod
        for pod in _selected(service, survey)
        if pod.host_network and ip in pod.addresses
    )
    return pods[0] if pods else None


def _backends_at(
    ip: IPAddress, service: Service, survey: Survey
) -> Iterator[SliceEndpoint]:
    for part in survey.objects.endpoint_slices:
        if part.key_of_service == service.key:
            yield from (each for each in part.endpoints if ip in each.addresses)


def _selected(service: Service, survey: Survey) -> Iterable[Workload]:
    """The pods that its selector matches, ready or not."""
    if not service.selector:
        return ()
    return [
        pod
        for pod in survey.workloads.values()
        if pod.namespace == service.namespace
        and service.selector.items() <= pod.labels.items()
    ]


def _target_ports(service: Service, port: int, pod: Workload) -> Iterator[int]:
    for each in service.ports:
        if each.port != port:
            continue
        if isinstance(each.target, int):
            yield each.target
        else:
            yield from (named.port for named in pod.ports if named.name == each.target)


def _why_no_pod(
    service: Service, port: int, endpoints: list[Endpoint], survey: Survey
) -> str:
    """Why there is no pod, as far as the objects tell."""
    which = f"Service {service.key} has no pod behind port {port}"
    if endpoints:
        where = ", ".join(str(each.address) for each in endpoints[:4])
        return f"{which}: it leads to {where}, which is no pod and outside the mesh"
    if any(
        each.key_of_service == service.key for each in survey.objects.endpoint_slices
    ):
        return f"{which}: its EndpointSlices have no ready endpoint with this port"
    if not service.selector:
        return f"{which}: it has no selector, and there is no EndpointSlice for it"
    selected = [pod.key for pod in _selected(service, survey)]
    if not selected:
        labels = ",".join(f"{key}={value}" for key, value in service.selector.items())
        return f"{which}: its selector {labels} matches no pod of its namespace"
    names = ", ".join(sorted(selected)[:4])
    return (
        f"{which}: its selector matches {names}, which are not ready or have no port "
        f"of the name that it targets"
    )
