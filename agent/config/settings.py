"""
The settings: one frozen class per section of the file, units in the names.

A field without a default has one that is worked out from the host or from another
setting; `sources.resolve` does that.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NewType

import msgspec

from agent.addresses import IPNetwork, SocketAddress
from agent.errors import InputError
from agent.identity.federated import FederatedDomain
from agent.identity.spiffe import TrustDomain
from agent.log import LogFormat, LogLevel

MAX_WORKERS_BY_DEFAULT: Final = 4
DEFAULT_TRUST_DOMAIN: Final = TrustDomain("cluster.local")
DEFAULT_LISTEN: Final = SocketAddress.parse("127.0.0.1:8443")

Origin = Literal["default", "file", "environment", "flag"]
DefaultInbound = Literal[
    "all-unauthenticated",
    "cluster-unauthenticated",
    "all-authenticated",
    "cluster-authenticated",
    "deny",
    "audit",
]
SameNode = Literal["tunnel", "direct"]
NodeName = NewType("NodeName", str)
ObjectName = NewType("ObjectName", str)
"""Of whatever kind, `namespace/name`."""
AccountName = NewType("AccountName", str)
"""A ServiceAccount, `namespace/name`."""
AGENTS_NAMESPACE: Final = "podlock"
AGENTS_NAME: Final = "podlock-agent"
HttpsUrl = NewType("HttpsUrl", str)
SpiffeSocket = NewType("SpiffeSocket", str)
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
PerSecond = Annotated[float, msgspec.Meta(gt=0, le=100_000)]
# A busy worker answers within milliseconds, one on a busy machine perhaps not.
WorkerSeconds = Annotated[float, msgspec.Meta(ge=1, le=3_600)]
DrainSeconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
# Below a minute there is no time to renew; a year is what an issuer lives.
Hours = Annotated[float, msgspec.Meta(ge=1 / 60, le=8_760)]
# An RFC 1123 label, as Kubernetes has it.
NamespaceName = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
]
Workers = Annotated[int, msgspec.Meta(ge=0, le=64)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]

# Where a pod of a usual cluster may live (RFC 1918, RFC 6598, RFC 4193), as Linkerd's
# clusterNetworks has it: the meaning of "cluster" in cluster-authenticated.
CLUSTER_NETWORKS: Final[tuple[IPNetwork, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fd00::/8",
    )
)


class ConfigError(InputError):
    """A setting that is unknown, of the wrong kind, or at odds with another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectSettings:
    """`cgroup` None: the cgroup v2 root, wherever it is mounted."""

    source: Path  # where the eBPF programs lie; default: the shipped ones
    pins: Path = Path("/sys/fs/bpf/podlock")
    cgroup: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentSettings:
    """`gate` strict: no pod connects before the agent has looked at it."""

    gate: Literal["open", "strict"] = "open"  # "off" would be YAML's false


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """`service` None: an authority of our own, inside control."""

    service: HttpsUrl | None = None
    anchors: Path | None = None  # PEM: how we know the service
    token: Path | None = None  # how the service knows us
    workload_api: SpiffeSocket | None = None  # a SPIFFE agent, in place of a service
    certificate_lifetime_hours: Hours = 24.0
    crl: Path | None = None  # revocation lists: a file, or a directory of them
    # A tunnel takes no new connections then; null: as long as its certificates live.
    connection_max_age_hours: Hours | None = None
    # A connection under a tainted certificate ends by then, ready or not.
    taint_deadline_seconds: Seconds = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """What holds where no policy object says otherwise."""

    default_inbound: DefaultInbound = "all-unauthenticated"
    cluster_networks: tuple[IPNetwork, ...] = CLUSTER_NETWORKS
    # Whose Istio policies are about the whole mesh (Istio's rootNamespace).
    root_namespace: NamespaceName = "istio-system"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """
    The API server as the source of objects, in place of `manifests`.

    In a pod `in_cluster`, elsewhere a kubeconfig. `server` None: where the kubelet says
    that it is. `agent`: whose tokens the identity service takes for a node's agent.
    `kubelet_port`: who listens there as root is the kubelet, whose probes pass.
    """

    in_cluster: bool = False
    kubeconfig: Path | None = None
    server: HttpsUrl | None = None
    credentials: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    agent: AccountName  # default: podlock-agent of the namespace where this pod runs
    kubelet_port: Port = 10250

    @property
    def is_used(self) -> bool:
        """Whether objects come from an API server."""
        return self.in_cluster or self.kubeconfig is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritySettings:
    """The certificate authority, embedded or served by `podlock identity serve`."""

    directory: Path  # default: state_dir/authority
    listen: SocketAddress = DEFAULT_LISTEN
    issuer: Path | None = None  # tls.crt, tls.key as cert-manager mounts them
    config_map: ObjectName | None = None  # where replicas share state and bundle
    audit_log: Path | None = None  # default: directory/audit.jsonl
    requests_per_second: PerSecond = 20.0  # of one node, in the long run
    request_burst: Count = 1000  # of one node at once: as many identities as it has
    concurrent_requests: Count = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationSettings:
    """Foreign trust domains whose workloads may be known here; for the authority."""

    domains: tuple[FederatedDomain, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    level: LogLevel = "info"
    format: LogFormat = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings:
    socket: Path  # default: run_dir/agent.sock
    readiness: SocketAddress | None = None  # HTTP for the kubelet's probes of us


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Everything a peer can make us hold or wait for has one of these."""

    connections_per_pod: Count = 4096
    tunnel_streams: Count = 100  # RFC 9113 6.5.2 asks for no fewer
    connect_timeout_seconds: Seconds = 10.0
    handshake_timeout_seconds: Seconds = 10.0
    idle_tunnel_seconds: Seconds = 300.0
    drain_seconds: DrainSeconds = 5.0
    worker_timeout_seconds: WorkerSeconds = 10.0  # then it is killed, started again
    control_timeout_seconds: WorkerSeconds = 10.0  # then workers refuse new connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The effective settings of one agent; `origins` tells where each came from."""

    node: NodeName  # default: the host's name
    trust_domain: TrustDomain = DEFAULT_TRUST_DOMAIN
    manifests: Path = Path("/etc/podlock/manifests")
    run_dir: Path = Path("/run/podlock")
    state_dir: Path = Path("/var/lib/podlock")
    workers: Workers = 0  # 0: one per core, up to 4
    # direct: pods of one node talk past the agent, in plaintext inside the node
    same_node: SameNode = "tunnel"
    redirect: RedirectSettings
    enrolment: EnrolmentSettings
    identity: IdentitySettings
    policy: PolicySettings
    kubernetes: KubernetesSettings
    authority: AuthoritySettings
    federation: FederationSettings
    log: LogSettings
    status: StatusSettings
    limits: LimitSettings
    origins: Mapping[str, Origin] = field(compare=False, repr=False)

    @property
    def worker_count(self) -> int:
        """How many proxy workers to run, on the cores that we may use."""
        cores = len(os.sched_getaffinity(0))
        return self.workers or min(cores, MAX_WORKERS_BY_DEFAULT)

    def document(self) -> dict[str, Any]:
        """Every effective value, and where it came from, as plain data."""
        return {"values": plain(self), "origins": dict(self.origins)}


# Dataclasses that are one value of a setting and no section.
VALUES: Final = (SocketAddress, TrustDomain, FederatedDomain)


def plain(value: Any) -> Any:
    """A value of these classes as JSON and YAML know it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, VALUES):
        return {
            f.name: plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.name != "origins"
        }
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return value if value is None or isinstance(value, int | float) else str(value)
