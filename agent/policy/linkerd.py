"""
Linkerd's policy kinds (group policy.linkerd.io), as a manifest spells them.

Source: Linkerd's custom resource definitions and what its admission webhook refuses.
Unknown fields are errors at every level: a misspelt field of a policy is a rule that
somebody believes in and nobody applies.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from agent.addresses import IPNetwork
from agent.policy.objects import (
    DnsLabel,
    DnsSubdomain,
    PolicyObject,
    PortName,
    PortNumber,
    Strict,
    parse_network,
)
from agent.policy.rule import (
    DefaultPolicy,
    IdentityMatch,
    InvalidIdentityMatch,
    NetworkMatch,
)
from agent.policy.selector import LabelSelector

GROUP: Final = "policy.linkerd.io"


class ServerSpec(Strict, frozen=True, kw_only=True):
    """Which port of which pods; `proxyProtocol` is for HTTP proxies and unused."""

    pod_selector: LabelSelector | None = None
    external_workload_selector: LabelSelector | None = None
    port: PortNumber | PortName
    proxy_protocol: Literal["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"] = (
        "unknown"
    )
    access_policy: DefaultPolicy = DefaultPolicy.DENY

    def __post_init__(self) -> None:
        given = (self.pod_selector, self.external_workload_selector)
        if sum(one is not None for one in given) != 1:
            raise ValueError("expected one of podSelector and externalWorkloadSelector")

    @property
    def selects_all(self) -> bool:
        """Whether it is about every pod of its namespace."""
        return self.pod_selector is not None and self.pod_selector.selects_all


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
        excluded = tuple(parse_network(text) for text in self.excluded)
        return NetworkMatch(parse_network(self.cidr), excluded)


class NetworkAuthenticationSpec(Strict, frozen=True, kw_only=True):
    """Networks; any one is enough."""

    networks: Annotated[tuple[Network, ...], msgspec.Meta(min_length=1)]


class NetworkAuthentication(PolicyObject, frozen=True, kw_only=True):
    """Clients that come from one of some networks."""

    spec: NetworkAuthenticationSpec


class ServerSelection(Strict, frozen=True, kw_only=True):
    """One Server by name, or some by their labels."""

    name: DnsSubdomain | None = None
    selector: LabelSelector | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.selector is None):
            raise ValueError("expected one of name and selector")


class ServiceAccountRef(Strict, frozen=True, kw_only=True):
    """A ServiceAccount, by default of the namespace of the object that names it."""

    name: DnsSubdomain
    namespace: DnsLabel | None = None


class MeshTls(Strict, frozen=True, kw_only=True):
    """Clients with one of these identities, or any client with mutual TLS."""

    unauthenticated_tls: bool = msgspec.field(default=False, name="unauthenticatedTLS")
    identities: tuple[str, ...] = ()
    service_accounts: tuple[ServiceAccountRef, ...] = ()

    def __post_init__(self) -> None:
        if not (self.unauthenticated_tls or self.identities or self.service_accounts):
            names = "unauthenticatedTLS, identities and serviceAccounts"
            raise ValueError(f"expected at least one of {names}")
        if self.unauthenticated_tls and (self.identities or self.service_accounts):
            # Linkerd's webhook refuses it: the one admits everyone, the other some.
            raise ValueError(
                "unauthenticatedTLS excludes identities and serviceAccounts"
            )
        try:
            _ = self.matches
        except InvalidIdentityMatch as error:
            raise ValueError(str(error)) from error

    @property
    def matches(self) -> tuple[IdentityMatch, ...]:
        """`identities`, read."""
        return tuple(IdentityMatch.parse(text) for text in self.identities)


class Client(Strict, frozen=True, kw_only=True):
    """Who: by network, and by identity unless `unauthenticated`."""

    networks: tuple[Network, ...] = ()
    unauthenticated: bool = False
    mesh_tls: MeshTls | None = msgspec.field(default=None, name="meshTLS")

    def __post_init__(self) -> None:
        if not self.unauthenticated and self.mesh_tls is None:
            raise ValueError("expected unauthenticated or meshTLS")
        if self.unauthenticated and self.mesh_tls is not None:
            raise ValueError("unauthenticated: true excludes meshTLS")


class ServerAuthorizationSpec(Strict, frozen=True, kw_only=True):
    server: ServerSelection
    client: Client


class ServerAuthorization(PolicyObject, frozen=True, kw_only=True):
    """Admits some clients to some Servers of its namespace; the older way to."""

    spec: ServerAuthorizationSpec


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
    server_authorizations: tuple[ServerAuthorization, ...] = ()
    unreadable_servers: frozenset[tuple[str, str]] = frozenset()


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    if isinstance(outer, ipaddress.IPv4Network):
        return isinstance(inner, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, ipaddress.IPv6Network) and inner.subnet_of(outer)
