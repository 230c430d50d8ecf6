"""
Kubernetes' own kinds to values of ours: pods, namespaces, services and their backends.

Each function takes a document without nulls, or JSON as bytes, where null is absent;
and raises InvalidObject, which names the field. Only TCP is read; ports of other
protocols are not the mesh's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec

from agent.addresses import InvalidAddress, IPAddress, parse_ip
from agent.errors import InputError
from agent.kube import kinds
from agent.policy.schema import expected_at, steps
from agent.workload.model import (
    TUNNEL_HBONE,
    TUNNEL_MARK,
    EndpointSlice,
    NamedPort,
    Namespace,
    Node,
    Service,
    ServicePort,
    SliceEndpoint,
    Workload,
    derived_uid,
)
from agent.workload.registry import MESH_LABEL

# The path of a pod's network namespace. In a directory of manifests its writer is
# trusted with it; at an API server whoever may annotate a pod could name another pod's.
NETNS_ANNOTATION: Final = "podlock.io/netns"
# On the picture of a static pod. A node may make one in any namespace.
MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
NODE_TOPOLOGY: Final = "kubernetes.io/hostname"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
MAX_PATH_BYTES: Final = 4096  # PATH_MAX

T = TypeVar("T")

# "Expected `int`, got `str` - at `$.spec.port`", "... - at `key` in `$.labels`".
_MSGSPEC_WORDS: Final = ("Expected", "Invalid", "Object contains", "Object missing")
_MSGSPEC_PATH: Final = re.compile(r"(.*?) - at `(?:key` in `)?\$\.?(.*)`", re.DOTALL)


class InvalidObject(InputError):
    """An object with a field that is not what its kind says."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def convert(document: object, kind: type[T]) -> T:
    """Raises: InvalidObject, with the path of the field."""
    try:
        if isinstance(document, bytes):
            return _decoded(document, kind)
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        found = _MSGSPEC_PATH.fullmatch(str(error))
        message, field = found.groups() if found else (str(error), "")
        more = _expected(message, field, document, kind)
        raise InvalidObject(field, message.replace("`", "'") + more) from error


def _expected(message: str, field: str, document: object, kind: type[object]) -> str:
    """What is allowed there, and what stands there: msgspec tells neither."""
    if not message.startswith(_MSGSPEC_WORDS):
        return ""  # a check of ours, which says both
    expected = expected_at(kind, field)
    more = f"; expected {expected}" if expected else ""
    value = _value_at(document, field)
    if isinstance(value, str | int | float | bool):
        more += f", got {value!r:.80}"
    return more


def _value_at(document: object, path: str) -> object:
    value = document
    for step in steps(path):
        match value, step:
            case dict(), _ if step in value:
                value = value[step]
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return None
    return value


def _decoded(raw: bytes, kind: type[T]) -> T:
    """Straight from JSON: ten times as fast, and right unless a null is in the way."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        return msgspec.convert(without_nulls(msgspec.json.decode(raw)), kind)


def without_nulls(value: Any) -> Any:
    """
    `value` without the fields that are null, at every depth.

    Names are text, as in JSON: YAML reads the port in `8080: {mode: STRICT}` as a
    number.
    """
    if isinstance(value, dict):
        return {
            _name(name): without_nulls(item)
            for name, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _name(name: object) -> object:
    if isinstance(name, bool):
        return "true" if name else "false"
    return str(name) if isinstance(name, int) else name


def _address(text: str, field: str) -> IPAddress:
    try:
        ip = parse_ip(text)
    except InvalidAddress as error:
        raise InvalidObject(field, str(error)) from error
    if ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_link_local:
        raise InvalidObject(field, f"{ip} is not an address that others can reach")
    return ip


def _addresses(texts: Iterable[str], field: str) -> tuple[IPAddress, ...]:
    return tuple(dict.fromkeys(_address(text, field) for text in texts))


def pod(document: object) -> Workload:
    """A pod of a manifest, which also says where its network namespace is."""
    found = served_pod(document)
    return replace(found, netns=_netns(found.annotations.get(NETNS_ANNOTATION)))


def served_pod(document: object) -> Workload:
    """
    A pod of an API server.

    No annotation can make it unreadable: its last good state would stay in force, and
    with it, once the pod is finished, an address that has passed to another pod.
    """
    pod = convert(document, kinds.PodKind)
    meta, spec, status = pod.metadata, pod.spec, pod.status
    texts = [address.ip for address in status.pod_ips]
    if not texts and status.pod_ip:
        texts = [status.pod_ip]
    unready = any(
        condition.type == "Ready" and condition.status != "True"
        for condition in status.conditions
    )
    return Workload(
        uid=meta.uid or derived_uid(meta.namespace, meta.name),
        namespace=meta.namespace,
        name=meta.name,
        node=spec.node_name or "",
        service_account=(
            spec.service_account_name or spec.service_account or "default"
        ),
        addresses=_addresses(texts, "status.podIPs"),
        labels=meta.labels,
        annotations=meta.annotations,
        ports=_named_ports(spec),
        meshed=meta.labels.get(MESH_LABEL) == "enabled",
        marked=meta.annotations.get(TUNNEL_MARK) == TUNNEL_HBONE,
        host_network=spec.host_network,
        static=MIRROR_ANNOTATION in meta.annotations,
        ready=not unready and not meta.deletion_timestamp,
        finished=status.phase in ("Succeeded", "Failed"),
        terminating=bool(meta.deletion_timestamp),
    )


def _named_ports(spec: kinds.PodSpec) -> tuple[NamedPort, ...]:
    # An init container that is always restarted is a sidecar: it stays and listens.
    sidecars = (
        item for item in spec.init_containers if item.restart_policy == "Always"
    )
    return tuple(
        NamedPort(port.name, port.container_port)
        for container in (*spec.containers, *sidecars)
        for port in container.ports
        if port.name and port.protocol == "TCP"
    )


def _netns(path: str | None) -> str | None:
    if path is None:
        return None
    parts = path.split("/")
    plain = path.startswith("/") and path.isprintable() and len(path) > 1
    if (
        not plain
        or len(path.encode()) > MAX_PATH_BYTES
        or {"", ".", ".."} & {*parts[1:]}
    ):
        message = f"expected an absolute path such as /run/netns/web, got {path[:80]!r}"
        raise InvalidObject(f"metadata.annotations[{NETNS_ANNOTATION}]", message)
    return path


def namespace(document: object) -> Namespace:
    meta = convert(document, kinds.NamespaceKind).metadata
    is_going = bool(meta.deletion_timestamp)
    return Namespace(meta.name, meta.labels, meta.annotations, is_going)


def service(document: object) -> Service:
    service = convert(document, kinds.ServiceKind)
    meta, spec = service.metadata, service.spec
    texts = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    headless = "None" in texts
    has_addresses = not headless and spec.type != "ExternalName"
    sticky = spec.session_affinity == "ClientIP"
    affinity = spec.session_affinity_config.client_ip
    return Service(
        namespace=meta.namespace,
        name=meta.name,
        addresses=_addresses(texts, "spec.clusterIPs") if has_addresses else (),
        ports=tuple(
            ServicePort(port.name, port.port, port.target_port or port.port)
            for port in spec.ports
            if port.protocol == "TCP"
        ),
        selector=spec.selector,
        publish_not_ready=spec.publish_not_ready_addresses,
        headless=headless,
        external_name=spec.external_name if spec.type == "ExternalName" else None,
        affinity_seconds=affinity.timeout_seconds if sticky else None,
        local_only=spec.internal_traffic_policy == "Local",
    )


def endpoint_slice(document: object) -> EndpointSlice:
    part = convert(document, kinds.EndpointSliceKind)
    service = part.metadata.labels.get(SERVICE_LABEL)
    if not service:
        field = f"metadata.labels[{SERVICE_LABEL}]"
        raise InvalidObject(field, "expected the name of the slice's Service")
    # Names are for whoever resolves them; nothing here can stand behind one.
    endpoints = part.endpoints if part.address_type != "FQDN" else ()
    return EndpointSlice(
        namespace=part.metadata.namespace,
        name=part.metadata.name,
        service=service,
        ports=_tcp_ports(part.ports),
        endpoints=tuple(_slice_endpoint(item) for item in endpoints),
    )


def _tcp_ports(ports: Iterable[kinds.SlicePort]) -> tuple[NamedPort, ...]:
    return tuple(
        NamedPort(port.name, port.port)
        for port in ports
        if port.protocol == "TCP" and port.port is not None
    )


def _slice_endpoint(item: kinds.SliceEndpointKind) -> SliceEndpoint:
    is_pod = item.target_ref.kind == "Pod"
    return SliceEndpoint(
        addresses=_addresses(item.addresses, "endpoints.addresses"),
        ready=item.conditions.is_ready,
        draining=item.conditions.is_draining,
        pod_uid=item.target_ref.uid if is_pod else None,
        pod_name=item.target_ref.name if is_pod else None,
        node=item.node_name or item.topology.get(NODE_TOPOLOGY, ""),
        zones=frozenset(zone.name for zone in item.hints.for_zones),
    )


def endpoints(document: object) -> EndpointSlice:
    """The older kind, as one slice whose endpoints each bring their own ports."""
    whole = convert(document, kinds.EndpointsKind)
    return EndpointSlice(
        namespace=whole.metadata.namespace,
        name=whole.metadata.name,
        service=whole.metadata.name,
        endpoints=tuple(
            _subset_endpoint(address, _tcp_ports(subset.ports), ready=ready)
            for subset in whole.subsets
            for addresses, ready in (
                (subset.addresses, True),
                (subset.not_ready_addresses, False),
            )
            for address in addresses
        ),
    )


def _subset_endpoint(
    item: kinds.SubsetAddress, ports: tuple[NamedPort, ...], *, ready: bool
) -> SliceEndpoint:
    is_pod = item.target_ref.kind == "Pod"
    return SliceEndpoint(
        addresses=_addresses((item.ip,), "subsets.addresses.ip"),
        ready=ready,
        pod_uid=item.target_ref.uid if is_pod else None,
        pod_name=item.target_ref.name if is_pod else None,
        node=item.node_name,
        ports=ports,
    )


def node(document: object) -> Node:
    meta = convert(document, kinds.NodeKind).metadata
    return Node(meta.name, meta.labels.get(ZONE_LABEL, ""))
