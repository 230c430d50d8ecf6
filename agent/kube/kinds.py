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
    deletion_timestamp: str = ""


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
    service_account: DnsSubdomain | None = None
    """The deprecated spelling, which the API server copies to the other."""
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


class ClientIpAffinity(Lenient, frozen=True, kw_only=True):
    # Kubernetes' own default: three hours.
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 10_800


class AffinityConfig(Lenient, frozen=True, kw_only=True):
    client_ip: ClientIpAffinity = msgspec.field(
        default_factory=ClientIpAffinity, name="clientIP"
    )


class ServiceSpec(Lenient, frozen=True, kw_only=True):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_name: str | None = None
    ports: tuple[ServicePortKind, ...] = ()
    selector: dict[str, str] = {}
    publish_not_ready_addresses: bool = False
    session_affinity: Literal["None", "ClientIP"] = "None"
    session_affinity_config: AffinityConfig = msgspec.field(
        default_factory=AffinityConfig
    )
    internal_traffic_policy: Literal["Cluster", "Local"] = "Cluster"


class ServiceKind(Lenient, frozen=True, kw_only=True):
    metadata: Metadata
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class SlicePort(Lenient, frozen=True, kw_only=True):
    port: PortNumber | None = None
    name: ServicePortName = ""
    protocol: Protocol = "TCP"


class EndpointConditions(Lenient, frozen=True, kw_only=True):
    # Unset means unknown, which consumers "should interpret as ready", and serving as
    # ready says.
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    @property
    def is_ready(self) -> bool:
        return self.ready is not False

    @property
    def is_draining(self) -> bool:
        """Serving still, and terminating."""
        serving = self.is_ready if self.serving is None else self.serving
        return serving and self.terminating is True


class TargetRef(Lenient, frozen=True, kw_only=True):
    kind: str = ""
    name: str | None = None
    uid: str | None = None


class ForZone(Lenient, frozen=True, kw_only=True):
    name: str


class EndpointHints(Lenient, frozen=True, kw_only=True):
    for_zones: tuple[ForZone, ...] = ()


class SliceEndpointKind(Lenient, frozen=True, kw_only=True):
    addresses: tuple[str, ...]
    conditions: EndpointConditions = msgspec.field(default_factory=EndpointConditions)
    target_ref: TargetRef = msgspec.field(default_factory=TargetRef)
    node_name: str = ""
    hints: EndpointHints = msgspec.field(default_factory=EndpointHints)
    # v1beta1 names the node here.
    topology: dict[str, str] = {}


class EndpointSliceKind(Lenient, frozen=True, kw_only=True):
    metadata: Metadata
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[SliceEndpointKind, ...] = ()
    ports: tuple[SlicePort, ...] = ()


class SubsetAddress(Lenient, frozen=True, kw_only=True):
    ip: str
    node_name: str = ""
    target_ref: TargetRef = msgspec.field(default_factory=TargetRef)


class Subset(Lenient, frozen=True, kw_only=True):
    addresses: tuple[SubsetAddress, ...] = ()
    not_ready_addresses: tuple[SubsetAddress, ...] = ()
    ports: tuple[SlicePort, ...] = ()


class EndpointsKind(Lenient, frozen=True, kw_only=True):
    metadata: Metadata
    subsets: tuple[Subset, ...] = ()


class NodeMetadata(Lenient, frozen=True, kw_only=True):
    name: DnsSubdomain
    labels: dict[str, str] = {}


class NodeKind(Lenient, frozen=True, kw_only=True):
    metadata: NodeMetadata


class ListKind(Lenient, frozen=True, kw_only=True):
    items: tuple[Any, ...] = ()
