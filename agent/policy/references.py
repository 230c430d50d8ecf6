"""
Linkerd's AuthorizationPolicies, with what they refer to: authorizations by Server.

What cannot be resolved never widens anything: a required authentication that does
not exist is one that nobody has, and a target that we cannot enforce at the
connection gets no authorization. Either way a Problem says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from agent.identity.spiffe import SCHEME, SpiffeId, TrustDomain
from agent.policy.linkerd import (
    GROUP,
    AuthorizationPolicy,
    LinkerdPolicies,
    MeshTLSAuthentication,
    NetworkAuthentication,
    ObjectRef,
    Server,
)
from agent.policy.problem import Problem
from agent.policy.rule import (
    DNS_FORM_INFIX,
    Authorization,
    IdentityForm,
    IdentityMatch,
    NetworkMatch,
    dns_name,
)

ObjectName = tuple[str, str]
"""Namespace and name."""

# Kinds that Linkerd's AuthorizationPolicy can target and that need HTTP to enforce.
_ROUTES: Final = frozenset({"httproute", "grpcroute"})


@dataclass(frozen=True, slots=True)
class LinkerdRules:
    """Servers, the oldest first, each with the authorizations that target it."""

    servers: tuple[Server, ...] = ()
    authorizations: Mapping[ObjectName, tuple[Authorization, ...]] = field(
        default_factory=dict
    )
    unreadable_servers: frozenset[ObjectName] = frozenset()


def resolve(
    policies: LinkerdPolicies, trust_domain: TrustDomain
) -> tuple[LinkerdRules, tuple[Problem, ...]]:
    """Follow every reference once, for all workloads; see the module."""
    index = _Index(policies, trust_domain)
    authorizations: dict[ObjectName, tuple[Authorization, ...]] = {}
    problems = list(_useless_identities(policies, trust_domain))
    for policy in sorted(policies.authorization_policies, key=_object_name):
        targets, faults = index.targets(policy)
        problems += faults
        authorization, faults = index.authorization(policy)
        problems += faults
        for server in targets:
            earlier = authorizations.get(server, ())
            authorizations[server] = (*earlier, authorization)
    servers = tuple(sorted(policies.servers, key=_age))
    rules = LinkerdRules(servers, authorizations, policies.unreadable_servers)
    return rules, tuple(problems)


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


class _Index:
    """The objects by name, for the references between them."""

    def __init__(self, policies: LinkerdPolicies, trust_domain: TrustDomain) -> None:
        self._trust_domain = trust_domain
        self._servers = sorted(_object_name(server) for server in policies.servers)
        self._mesh_tls: dict[ObjectName, MeshTLSAuthentication] = {
            _object_name(item): item for item in policies.mesh_tls_authentications
        }
        self._networks: dict[ObjectName, NetworkAuthentication] = {
            _object_name(item): item for item in policies.network_authentications
        }

    def targets(
        self, policy: AuthorizationPolicy
    ) -> tuple[tuple[ObjectName, ...], list[Problem]]:
        """The Servers that `policy` authorizes for."""
        target = policy.spec.target_ref
        fault: str
        if target.is_kind(GROUP, "Server"):
            server = (policy.namespace, target.name)
            if server in self._servers:
                return (server,), []
            fault = f"Server {policy.namespace}/{target.name} does not exist"
        elif target.is_kind("", "Namespace"):
            if target.name == policy.namespace:
                return tuple(
                    name for name in self._servers if name[0] == policy.namespace
                ), []
            fault = f"expected its own namespace, not {target.name}"
        elif target.kind.lower() in _ROUTES:
            fault = (
                f"{target.kind} is not enforceable, podlock does not read HTTP; "
                "target a Server"
            )
        else:
            fault = f"expected a Server or Namespace, not {target.group}/{target.kind}"
        problem = Problem(
            policy.title, "spec.targetRef", f"{fault}; the policy admits nobody"
        )
        return (), [problem]

    def authorization(
        self, policy: AuthorizationPolicy
    ) -> tuple[Authorization, list[Problem]]:
        """All required authentications of `policy` in one: each must be met."""
        identities: tuple[IdentityMatch, ...] | None = None
        networks: tuple[NetworkMatch, ...] | None = None
        problems: list[Problem] = []
        for number, ref in enumerate(policy.spec.required_authentication_refs):
            found = self._authentication(policy, ref)
            if isinstance(found, str):
                place = f"spec.requiredAuthenticationRefs[{number}]"
                message = f"{found}; the policy admits nobody"
                problems.append(Problem(policy.title, place, message))
                identities = ()
            elif isinstance(found, NetworkAuthentication):
                matches = [network.match for network in found.spec.networks]
                networks = both_networks(networks, matches)
            else:
                identities = both_identities(identities, found)
        return Authorization(policy.title, identities, networks), problems

    def _authentication(
        self, policy: AuthorizationPolicy, ref: ObjectRef
    ) -> NetworkAuthentication | tuple[IdentityMatch, ...] | str:
        """What `ref` demands, or a sentence about why nobody can meet it."""
        namespace = ref.namespace or policy.namespace
        name = (namespace, ref.name)
        if ref.is_kind(GROUP, "NetworkAuthentication"):
            network = self._networks.get(name)
            return network or _missing(ref, namespace)
        if ref.is_kind(GROUP, "MeshTLSAuthentication"):
            mesh_tls = self._mesh_tls.get(name)
            return self._identities(mesh_tls) if mesh_tls else _missing(ref, namespace)
        if ref.is_kind("", "ServiceAccount"):
            return (self._account(namespace, ref.name),)
        return (
            "expected a MeshTLSAuthentication, NetworkAuthentication or "
            f"ServiceAccount, not {ref.group}/{ref.kind}"
        )

    def _identities(self, mesh_tls: MeshTLSAuthentication) -> tuple[IdentityMatch, ...]:
        matches = list(mesh_tls.spec.matches)
        for ref in mesh_tls.spec.identity_refs or ():
            if ref.is_kind("", "ServiceAccount"):
                namespace = ref.namespace or mesh_tls.namespace
                matches.append(self._account(namespace, ref.name))
            elif _names_namespace(ref):
                suffix = dns_name(ref.name, "*", str(self._trust_domain))
                matches.append(IdentityMatch(IdentityForm.SUFFIX, suffix))
        return tuple(matches)

    def _account(self, namespace: str, name: str) -> IdentityMatch:
        text = dns_name(namespace, name, str(self._trust_domain))
        return IdentityMatch(IdentityForm.EXACT, text)


def _missing(ref: ObjectRef, namespace: str) -> str:
    return f"{ref.kind} {namespace}/{ref.name} does not exist"


def _useless_identities(
    policies: LinkerdPolicies, trust_domain: TrustDomain
) -> Iterator[Problem]:
    """What a MeshTLSAuthentication asks for and no workload here can have."""
    for item in sorted(policies.mesh_tls_authentications, key=_object_name):
        for match in item.spec.matches:
            if not _can_match(match, trust_domain):
                expected = f"{SCHEME}{trust_domain}/... or ...{DNS_FORM_INFIX}."
                yield Problem(
                    item.title,
                    "spec.identities",
                    f"{match.text} matches nobody: identities are "
                    f"{expected}{trust_domain}",
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


def _object_name(
    item: Server | AuthorizationPolicy | MeshTLSAuthentication | NetworkAuthentication,
) -> ObjectName:
    return (item.namespace, item.name)


def _age(server: Server) -> tuple[bool, str, ObjectName]:
    """The oldest first; those of unknown age last; then by name."""
    created = server.metadata.creation_timestamp
    return (not created, created, _object_name(server))
