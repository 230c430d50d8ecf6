"""
Linkerd's policy kinds (group policy.linkerd.io), as a manifest spells them.

Source: Linkerd's custom resource definitions and what its admission webhook refuses.
Unknown fields are errors at every level: a misspelt field of a policy is a rule that
somebody believes in and nobody applies.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from agent.addresses import IPNetwork
from agent.policy.rule import (
    DefaultPolicy,
    IdentityMatch,
    InvalidIdentityMatch,
    NetworkMatch,
)
from agent.policy.selector import LabelSelector

GROUP: Final = "policy.linkerd.io"

# RFC 1123 labels, as Kubernetes takes them; RFC 6335 section 5.1 for port names.
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
DnsLabel = Annotated[str, msgspec.Meta(pattern=rf"^{_LABEL}\Z", max_length=63)]
DnsSubdomain = Annotated[
    str, msgspec.Meta(pattern=rf"^{_LABEL}(?:\.{_LABEL})*\Z", max_length=253)
]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
PortName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?=.*[a-z])(?!.*--)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\Z", max_length=15
    ),
]


class Strict(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
):
    """A part of a policy object; see the module for why it takes no other field."""


class PolicyMetadata(Strict, frozen=True, kw_only=True):
    """Kubernetes' ObjectMeta, whole, since unknown fields are refused."""

    name: DnsSubdomain
    namespace: DnsLabel = "default"
    creation_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    generate_name: str = ""
    self_link: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int = 0
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[Any, ...] = ()
    managed_fields: tuple[Any, ...] = ()


class PolicyObject(Strict, frozen=True, kw_only=True):
    """What every policy object has around its `spec`."""

    api_version: str
    kind: str
    metadata: PolicyMetadata
    status: Any = None

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def title(self) -> str:
        """How refusals and problems name it: "Server shop/api-http"."""
        return f"{self.kind} {self.namespace}/{self.name}"


class ServerSpec(Strict, frozen=True, kw_only=True):
    """Which port of which pods; `proxyProtocol` is for HTTP proxies and unused."""

    pod_selector: LabelSelector
    port: PortNumber | PortName
    proxy_protocol: Literal["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"] = (
        "unknown"
    )
    access_policy: DefaultPolicy = DefaultPolicy.DENY


class Server(PolicyObject, frozen=True, kw_only=True):
    """One port of some pods, closed to all but who is authorized."""

    spec: ServerSpec


class LocalRef(Strict, frozen=True, kw_only=True):
    """An object of the policy's own namespace, or that namespace itself."""

    kind: str
    name: DnsSubdomain
    group: str = ""

    def is_kind(self, group: str, kind: str) -> bool:
        """Compare as Linkerd does: no case, and "core" is the empty group."""
        mine = self.group.lower()
        return ("" if mine == "core" else mine, self.kind.lower()) == (
            group,
            kind.lower(),
        )


class ObjectRef(LocalRef, frozen=True, kw_only=True):
    """An object, by default in the namespace of the one that names it."""

    namespace: DnsLabel | None = None


class AuthorizationPolicySpec(Strict, frozen=True, kw_only=True):
    """An empty `requiredAuthenticationRefs` admits anyone; so it must be written."""

    target_ref: LocalRef
    required_authentication_refs: tuple[ObjectRef, ...]


class AuthorizationPolicy(PolicyObject, frozen=True, kw_only=True):
    """Admits who meets all the required authentications to its target."""

    spec: AuthorizationPolicySpec


class MeshTLSAuthenticationSpec(Strict, frozen=True, kw_only=True):
    """Identities, by name or by the object that has them; any one is enough."""

    identities: tuple[str, ...] | None = None
    identity_refs: tuple[ObjectRef, ...] | None = None

    def __post_init__(self) -> None:
        if not self.identities and not self.identity_refs:
            raise ValueError("expected at least one of identities or identityRefs")
        try:
            _ = self.matches
        except InvalidIdentityMatch as error:
            raise ValueError(str(error)) from error

    @property
    def matches(self) -> tuple[IdentityMatch, ...]:
        """`identities`, read."""
        return tuple(IdentityMatch.parse(text) for text in self.identities or ())


class MeshTLSAuthentication(PolicyObject, frozen=True, kw_only=True):
    """Clients that proved one of some identities by mutual TLS."""

    spec: MeshTLSAuthenticationSpec


class Network(Strict, frozen=True, kw_only=True):
    """A network, or one address, without some networks in it."""

    cidr: str
    excluded: tuple[str, ...] = msgspec.field(default=(), name="except")

    def __post_init__(self) -> None:
        network = self.match
        for excluded in network.excluded:
            if not _contains(network.cidr, excluded):
                raise ValueError(f"cidr {self.cidr} does not include except {excluded}")
            if excluded == network.cidr:
                raise ValueError(
                    f"except {excluded} leaves nothing of cidr {self.cidr}"
                )

    @property
    def match(self) -> NetworkMatch:
        """This network, read."""
        excluded = tuple(_parse_network(text) for text in self.excluded)
        return NetworkMatch(_parse_network(self.cidr), excluded)


class NetworkAuthenticationSpec(Strict, frozen=True, kw_only=True):
    """Networks; any one is enough."""

    networks: Annotated[tuple[Network, ...], msgspec.Meta(min_length=1)]


class NetworkAuthentication(PolicyObject, frozen=True, kw_only=True):
    """Clients that come from one of some networks."""

    spec: NetworkAuthenticationSpec


@dataclass(frozen=True, slots=True)
class LinkerdPolicies:
    """
    All objects of these kinds that are in force.

    `unreadable_servers`: namespace and name of Servers that exist but could not be
    read and have no earlier state to hold. What they would close stays closed.
    """

    servers: tuple[Server, ...] = ()
    authorization_policies: tuple[AuthorizationPolicy, ...] = ()
    mesh_tls_authentications: tuple[MeshTLSAuthentication, ...] = ()
    network_authentications: tuple[NetworkAuthentication, ...] = ()
    unreadable_servers: frozenset[tuple[str, str]] = frozenset()


def _parse_network(text: str) -> IPNetwork:
    """
    Read `10.0.0.0/8` or a single address; host bits are cut off, as Linkerd does.

    Raises: ValueError, also for IPv4-mapped networks: sources are plain IPv4.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network like 10.0.0.0/8") from error
    address = network.network_address
    mapped = isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped or address.scope_id
    )
    if mapped:
        raise ValueError(f"{text!r}: write IPv4 as 10.0.0.0/8, and no zone index")
    return network


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)
