"""
Pods, namespaces and services as Podlock sees them, whatever source they came from.

A value here has been checked at the door: names are Kubernetes names, addresses are
addresses that a pod or service can have, ports are TCP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.addresses import IPAddress
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.istio import IstioPolicies
from agent.policy.linkerd import LinkerdPolicies

# The agent of its node puts this on a captured pod: as an annotation, which says so,
# and as a label, by which others select it.
TUNNEL_MARK: Final = "podlock.io/tunnel"
TUNNEL_HBONE: Final = "hbone"


def derived_uid(namespace: str, name: str) -> str:
    """A stable uid for a pod whose object has none; not the form Kubernetes uses."""
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()
    return f"podlock-{digest[:32]}"


@dataclass(frozen=True, slots=True)
class NamedPort:
    """A TCP port that a container gives a name."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Workload:
    """
    A pod.

    `node` is "" until it is scheduled. `netns` is the path of its network namespace,
    where known. `meshed`, as parsed, is what the pod's own label says; the registry
    settles it with the namespace's. `marked`: the agent of its node says that it is
    captured. A `static` pod is run from a file of its node, and its object is but a
    picture of it: without a ServiceAccount, and so without an identity. A `finished`
    pod holds no address any more, whatever its status still says; Kubernetes may have
    given it to another. A `terminating` one has a deletion timestamp.
    """

    uid: str
    namespace: str
    name: str
    node: str
    service_account: str
    addresses: tuple[IPAddress, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[NamedPort, ...] = ()
    meshed: bool = False
    marked: bool = False
    host_network: bool = False
    static: bool = False
    netns: str | None = None
    ready: bool = True
    finished: bool = False
    terminating: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`, unique in a cluster at one time."""
        return f"{self.namespace}/{self.name}"

    def identity(self, trust_domain: TrustDomain) -> SpiffeId:
        """Who it is: its ServiceAccount, shared by all pods that have the same."""
        return SpiffeId.for_workload(trust_domain, self.namespace, self.service_account)


@dataclass(frozen=True, slots=True)
class Namespace:
    """
    A namespace, for its mesh label and its default policy.

    A `terminating` one was deleted, and goes once everything in it has gone.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node, for the zone that it is in; "" where nobody says."""

    name: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A TCP port of a service, and the pod's port behind it, by number or name."""

    name: str
    port: int
    target: int | str


@dataclass(frozen=True, slots=True)
class Service:
    """
    A service; a headless or external one has no addresses of its own.

    `affinity_seconds`: so long after its last connection a client gets the same
    backend. `local_only`: only backends on the client's node are to be used.
    """

    namespace: str
    name: str
    addresses: tuple[IPAddress, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    publish_not_ready: bool = False
    headless: bool = False
    external_name: str | None = None
    affinity_seconds: int | None = None
    local_only: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class SliceEndpoint:
    """
    Some addresses of one backend, and the pod it is, where it is one.

    `draining`: it ends, and serves until then. `zones`: whose clients it is meant for
    (topology hints); empty without hints. `ports` None: those of the slice.
    """

    addresses: tuple[IPAddress, ...]
    ready: bool = True
    pod_uid: str | None = None
    pod_name: str | None = None
    node: str = ""
    zones: frozenset[str] = frozenset()
    ports: tuple[NamedPort, ...] | None = None
    draining: bool = False


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Part of the backends of `service`; `ports` by the service's port names."""

    namespace: str
    name: str
    service: str
    ports: tuple[NamedPort, ...] = ()
    endpoints: tuple[SliceEndpoint, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def key_of_service(self) -> str:
        """`namespace/name` of its Service."""
        return f"{self.namespace}/{self.service}"


@dataclass(frozen=True, slots=True)
class Objects:
    """Everything in force at one time. Each kind has every namespace/name once."""

    workloads: tuple[Workload, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    services: tuple[Service, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    linkerd: LinkerdPolicies = field(default_factory=LinkerdPolicies)
    istio: IstioPolicies = field(default_factory=IstioPolicies)
    nodes: tuple[Node, ...] = ()
