"""
The fields of Kubernetes' own kinds that we read, with their types.

Real objects have many more; those are not ours to judge, so unknown fields pass.
Fields that are null in a document have been taken out before: to Kubernetes, null is
absent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from agent.policy.objects import DnsLabel, DnsSubdomain, PortNumber

Protocol = Literal["TCP", "UDP", "SCTP"]
ServicePortName = Annotated[str, msgspec.Meta(max_length=253)]


class Lenient(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Part of an object of Kubernetes' own; other fields are passed over."""


class Metadata(Lenient, frozen=True, kw_only=True):
    name: DnsSubdomain
    namespace: DnsLabel = "default"
    uid: Annotated[str, msgspec.Meta(max_length=253)] = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str = ""


class NamespaceMetadata(Lenient, frozen=True, kw_only=True):
    name: DnsLabel
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class NamespaceKind(Lenient, frozen=True, kw_only=True):
    metadata: NamespaceMetadata


class ContainerPort(Lenient, frozen=True, kw_only=True):
    container_port: PortNumber
    name: str = ""
    protocol: Protocol = "TCP"


class Container(Lenient, frozen=True, kw_only=True):
    ports: tuple[ContainerPort, ...] = ()
    restart_policy: str = ""


class PodSpec(Lenient, frozen=True, kw_only=True):
    node_name: DnsSubdomain | None = None
    service_account_name: DnsSubdomain | None = None
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodAddress(Lenient, frozen=True, kw_only=True):
    ip: str


class Condition(Lenient, frozen=True, kw_only=True):
    type: str
    status: Literal["True", "False", "Unknown"]


class PodStatus(Lenient, frozen=True, kw_only=True):
    phase: str = "Running"
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodAddress, ...] = msgspec.field(default=(), name="podIPs")
    conditions: tuple[Condition, ...] = ()


class PodKind(Lenient, frozen=True, kw_only=True):
    metadata: Metadata
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class ServicePortKind(Lenient, frozen=True, kw_only=True):
    port: PortNumber
    name: ServicePortName = ""
    protocol: Protocol = "TCP"
    target_port: PortNumber | str | None = None


class ServiceSpec(Lenient, frozen=True, kw_only=True):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_name: str | None = None
    ports: tuple[ServicePortKind, ...] = ()
    selector: dict[str, str] = {}
    publish_not_ready_addresses: bool = False


class ServiceKind(Lenient, frozen=True, kw_only=True):
    metadata: Metadata
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class SlicePort(Lenient, frozen=True, kw_only=True):
    port: PortNumber | None = None
    name: ServicePortName = ""
    protocol: Protocol = "TCP"


class EndpointConditions(Lenient, frozen=True, kw_only=True):
    # Unset means unknown, which consumers "should interpret as ready".
    ready: bool = True


class TargetRef(Lenient, frozen=True, kw_only=True):
    kind: str = ""
    name: str | None = None
    uid: str | None = None


class SliceEndpointKind(Lenient, frozen=True, kw_only=True):
    addresses: tuple[str, ...]
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    target_ref: TargetRef = msgspec.field(default_factory=TargetRef)


class EndpointSliceKind(Lenient, frozen=True, kw_only=True):
    metadata: Metadata
    address_type: Literal["IPv4", "IPv6"]
    endpoints: tuple[SliceEndpointKind, ...] = ()
    ports: tuple[SlicePort, ...] = ()


class ListKind(Lenient, frozen=True, kw_only=True):
    items: tuple[Any, ...] = ()
