"""
Linkerd's authorizations, with what they refer to: authorizations by Server.

What cannot be resolved never widens anything: a required authentication that does
not exist is one that nobody has, and a target that we cannot enforce at the
connection gets no authorization. Either way a Problem says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from agent.identity.spiffe import SCHEME, SpiffeId, TrustDomain
from agent.memo import Memo
from agent.policy.linkerd import (
    AuthorizationPolicy,
    LinkerdPolicies,
    MeshTLSAuthentication,
    NetworkAuthentication,
    ObjectRef,
    Server,
    ServerAuthorization,
)
from agent.policy.names import DNS_FORM_INFIX, dns_name
from agent.policy.objects import host_bits
from agent.policy.problem import Problem
from agent.policy.reference_index import Found, ObjectName, ReferenceIndex, object_name
from agent.policy.rule import (
    Authorization,
    IdentityForm,
    IdentityMatch,
    NetworkMatch,
    PortPolicy,
)
from agent.policy.selector import SelectorIndex

# What must all be met is worked out by pairs: so many, of one policy.
MAX_COMBINATIONS: Final = 10_000
_TOO_MUCH: Final = (
    f"more than {MAX_COMBINATIONS} combinations with the references before"
)


@dataclass(frozen=True, slots=True)
class LinkerdRules:
    """Servers, the oldest first, each with the authorizations that target it."""

    servers: tuple[Server, ...] = ()
    authorizations: Mapping[ObjectName, tuple[Authorization, ...]] = field(
        default_factory=dict
    )
    unreadable_servers: frozenset[ObjectName] = frozenset()
    ports: Memo[[Server, tuple[Authorization, ...]], PortPolicy] = field(
        default_factory=lambda: Memo(_port_policy), compare=False, repr=False
    )
    _selecting: SelectorIndex[Server] = field(
        default_factory=SelectorIndex, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        for server in self.servers:
            if server.spec.pod_selector is not None:
                selector = server.spec.pod_selector
                self._selecting.add(server.namespace, selector, server)

    def servers_of(self, namespace: str, labels: Mapping[str, str]) -> list[Server]:
        """The Servers that select a pod, the oldest first."""
        return self._selecting.select(namespace, labels)

    def port_policy(self, server: Server) -> PortPolicy:
        """What a Server says of its port: made once for all the pods it selects."""
        name = object_name(server)
        return self.ports(name, server, self.authorizations.get(name, ()))


def resolve(
    policies: LinkerdPolicies, trust_domain: TrustDomain
) -> tuple[LinkerdRules, tuple[Problem, ...]]:
    """Follow every reference once, for all workloads; see the module."""
    return LinkerdResolver(trust_domain).resolve(policies)


class LinkerdResolver:
    """Makes LinkerdRules of the objects, and keeps what did not change."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        federated: frozenset[TrustDomain] = frozenset(),
    ) -> None:
        self._trust_domain = trust_domain
        self._known = (trust_domain, *sorted(federated))
        self._made = Memo(self._authorization)
        self._servers = Memo(self._server_authorization)
        self._ports = Memo(_port_policy)

    def federate(self, federated: frozenset[TrustDomain]) -> None:
        """These foreign trust domains there are from now on: for warnings only."""
        self._known = (self._trust_domain, *sorted(federated))

    def resolve(
        self, policies: LinkerdPolicies
    ) -> tuple[LinkerdRules, tuple[Problem, ...]]:
        """Follow every reference once, for all workloads; see the module."""
        index = ReferenceIndex(policies)
        found: dict[ObjectName, list[Authorization]] = {}
        problems = [
            *_useless_identities(policies, self._known),
            *_host_bits(policies),
            *_external(policies),
        ]
        for policy in sorted(policies.authorization_policies, key=object_name):
            targets, faults = index.targets(policy)
            problems += faults
            made = self._made(policy.title, policy, index.required(policy))
            problems += made[1]
            for server in targets:
                found.setdefault(server, []).append(made[0])
        for item in sorted(policies.server_authorizations, key=object_name):
            targets, faults = index.selected(item)
            problems += faults
            authorization = self._servers(item.title, item)
            for server in targets:
                found.setdefault(server, []).append(authorization)
        self._made.end_round()
        self._servers.end_round()
        rules = LinkerdRules(
            tuple(sorted(policies.servers, key=lambda server: server.age)),
            {name: tuple(items) for name, items in found.items()},
            policies.unreadable_servers,
            self._ports,
        )
        return rules, tuple(problems)

    def end_round(self) -> None:
        """Every workload was asked for: forget the ports that nobody has."""
        self._ports.end_round()

    def _authorization(
        self, policy: AuthorizationPolicy, required: tuple[Found, ...]
    ) -> tuple[Authorization, tuple[Problem, ...]]:
        """All required authentications of `policy` in one: each must be met."""
        identities: tuple[IdentityMatch, ...] | None = None
        networks: tuple[NetworkMatch, ...] | None = None
        problems: list[Problem] = []
        for number, found in enumerate(required):
            fault: str | None = None
            if isinstance(found, str):
                fault = found
            elif isinstance(found, NetworkAuthentication):
                matches = [network.match for network in found.spec.networks]
                if _is_too_much(networks, matches):
                    fault = _TOO_MUCH
                else:
                    networks = both_networks(networks, matches)
            else:
                known = self._identities(policy, found)
                if _is_too_much(identities, known):
                    fault = _TOO_MUCH
                else:
                    identities = both_identities(identities, known)
            if fault is not None:
                place = f"spec.requiredAuthenticationRefs[{number}]"
                message = f"{fault}; the policy admits nobody"
                problems.append(Problem(policy.title, place, message))
                identities = ()
        return Authorization(policy.title, identities, networks), tuple(problems)

    def _server_authorization(self, item: ServerAuthorization) -> Authorization:
        client = item.spec.client
        networks = tuple(network.match for network in client.networks) or None
        tls = client.mesh_tls
        if client.unauthenticated or tls is None:
            return Authorization(item.title, None, networks)
        if tls.unauthenticated_tls:
            # Whoever speaks TLS to us has proved who they are: there is no other TLS.
            anyone = IdentityMatch(IdentityForm.ANY, "*")
            return Authorization(item.title, (anyone,), networks)
        accounts = tuple(
            self._account(ref.namespace or item.namespace, ref.name)
            for ref in tls.service_accounts
        )
        matches = self._own(tls.matches)
        return Authorization(item.title, (*matches, *accounts), networks)

    def _identities(
        self,
        policy: AuthorizationPolicy,
        found: MeshTLSAuthentication | ObjectRef,
    ) -> tuple[IdentityMatch, ...]:
        if isinstance(found, ObjectRef):
            return (self._account(found.namespace or policy.namespace, found.name),)
        matches = self._own(found.spec.matches)
        for ref in found.spec.identity_refs or ():
            if ref.is_kind("", "ServiceAccount"):
                namespace = ref.namespace or found.namespace
                matches.append(self._account(namespace, ref.name))
            elif _names_namespace(ref):
                suffix = dns_name(ref.name, "*", str(self._trust_domain))
                matches.append(IdentityMatch(IdentityForm.SUFFIX, suffix))
        return tuple(matches)

    def _own(self, matches: Iterable[IdentityMatch]) -> list[IdentityMatch]:
        """A suffix that names a part of our domain's form is about our domain only."""
        everyone = f".{DNS_FORM_INFIX}.{self._trust_domain}"
        return [
            IdentityMatch(IdentityForm.SUFFIX, f"*{everyone}")
            if match.form is IdentityForm.SUFFIX
            and match.text != f"*.{self._trust_domain}"
            and everyone.endswith(match.text[1:])
            else match
            for match in matches
        ]

    def _account(self, namespace: str, name: str) -> IdentityMatch:
        text = dns_name(namespace, name, str(self._trust_domain))
        return IdentityMatch(IdentityForm.EXACT, text)


def both_identities(
    left: Iterable[IdentityMatch] | None, right: Iterable[IdentityMatch]
) -> tuple[IdentityMatch, ...]:
    """What meets a demand of `left` (None: no demand yet) and one of `right`."""
    if left is None:
        return tuple(right)
    met: dict[IdentityMatch, None] = {}
    for one, other in product(left, tuple(right)):
        # Any two of these are apart, or one lies inside the other.
        if one.covers(other):
            met[other] = None
        elif other.covers(one):
            met[one] = None
    return tuple(met)


def both_networks(
    left: Iterable[NetworkMatch] | None, right: Iterable[NetworkMatch]
) -> tuple[NetworkMatch, ...]:
    """The addresses that are in one of `left` (None: all) and in one of `right`."""
    if left is None:
        return tuple(right)
    met: dict[NetworkMatch, None] = {}
    for one, other in product(left, tuple(right)):
        if one.cidr.overlaps(other.cidr):
            inner = max(one.cidr, other.cidr, key=lambda cidr: cidr.prefixlen)
            met[NetworkMatch(inner, (*one.excluded, *other.excluded))] = None
    return tuple(met)


def _useless_identities(
    policies: LinkerdPolicies, known: tuple[TrustDomain, ...]
) -> Iterator[Problem]:
    """What a MeshTLSAuthentication asks for and no workload here can have."""
    for item in sorted(policies.mesh_tls_authentications, key=object_name):
        for match in item.spec.matches:
            if not any(_can_match(match, domain) for domain in known):
                expected = f"{SCHEME}{known[0]}/... or ...{DNS_FORM_INFIX}.{known[0]}"
                yield Problem(
                    item.title,
                    "spec.identities",
                    f"{match.text} matches no workload of this mesh, whose identities "
                    f"are {expected}; only a federated trust domain can have it",
                )
        for number, ref in enumerate(item.spec.identity_refs or ()):
            place = f"spec.identityRefs[{number}]"
            if not ref.is_kind("", "ServiceAccount") and not _names_namespace(ref):
                fault = "expected a ServiceAccount, or a Namespace without a namespace"
                yield Problem(item.title, place, f"{fault}; it matches nobody")


def _names_namespace(ref: ObjectRef) -> bool:
    """Whether `ref` is a Namespace; a dotted name would reach into another's."""
    return (
        ref.is_kind("", "Namespace") and ref.namespace is None and "." not in ref.name
    )


def _can_match(match: IdentityMatch, trust_domain: TrustDomain) -> bool:
    if match.text.startswith(SCHEME):
        return SpiffeId.parse(match.text).trust_domain == trust_domain
    everyone = f".{DNS_FORM_INFIX}.{trust_domain}"
    if match.form is IdentityForm.SUFFIX:
        suffix = match.text[1:]
        return suffix.endswith(everyone) or everyone.endswith(suffix)
    return match.form is IdentityForm.ANY or match.text.endswith(everyone)


def _external(policies: LinkerdPolicies) -> Iterator[Problem]:
    """Servers of virtual machines that are registered: we know pods only."""
    for server in sorted(policies.servers, key=object_name):
        if server.spec.external_workload_selector is not None:
            message = "ExternalWorkloads are not known to podlock; selects nothing"
            yield Problem(server.title, "spec.externalWorkloadSelector", message)


def _host_bits(policies: LinkerdPolicies) -> Iterator[Problem]:
    """Networks that are written with an address of a host in them."""
    places = [
        (item.title, f"spec.networks[{number}].cidr", network.cidr)
        for item in sorted(policies.network_authentications, key=object_name)
        for number, network in enumerate(item.spec.networks)
    ]
    places += [
        (item.title, f"spec.client.networks[{number}].cidr", network.cidr)
        for item in sorted(policies.server_authorizations, key=object_name)
        for number, network in enumerate(item.spec.client.networks)
    ]
    for title, place, text in places:
        found = host_bits(text)
        if found is not None:
            yield Problem(title, place, f"{text} has host bits; {found} holds")


def _is_too_much(left: Sized | None, right: Sized) -> bool:
    return left is not None and len(left) * len(right) > MAX_COMBINATIONS


def _port_policy(
    server: Server, authorizations: tuple[Authorization, ...]
) -> PortPolicy:
    return PortPolicy(server.title, server.spec.access_policy, authorizations)
