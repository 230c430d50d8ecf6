"""
May this connection be: a pure function from a request and a policy to a permit.

Both families must let it pass. Istio first: mutual TLS where it is demanded, no DENY
rule that matches, and an ALLOW rule that does wherever there is an ALLOW policy. Then
Linkerd: a port without a Server takes the workload's default; with one, any of its
authorizations is enough; with none that matches, the Server's `accessPolicy` decides,
which is `deny` unless somebody wrote otherwise.

What is only audited (Linkerd's `audit`, Istio's dry run) lets pass and is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.addresses import IPAddress, unmapped
from agent.errors import Refused
from agent.identity.spiffe import SpiffeId
from agent.policy.explain import nearest
from agent.policy.index import RuleSet
from agent.policy.match import Facts
from agent.policy.rule import (
    DEFAULT_ANNOTATION,
    DefaultPolicy,
    InboundPolicy,
    IstioPolicy,
    PortPolicy,
)

_AUTHENTICATED: Final = frozenset(
    {DefaultPolicy.ALL_AUTHENTICATED, DefaultPolicy.CLUSTER_AUTHENTICATED}
)
_CLUSTER: Final = frozenset(
    {DefaultPolicy.CLUSTER_AUTHENTICATED, DefaultPolicy.CLUSTER_UNAUTHENTICATED}
)
# A refusal is as quick as a permit: so many authorizations are looked at for a hint.
_HINTS: Final = 8


@dataclass(frozen=True, slots=True)
class Request:
    """
    Who (None: plaintext, nobody proved anything) asks from where for which port.

    `source` is the client's own address, `port` the one the application listens on,
    `destination` the address that was asked for; without it no rule about
    `destination.ip` matches.
    """

    identity: SpiffeId | None
    source: IPAddress
    port: int
    destination: IPAddress | None = None

    @property
    def client(self) -> str:
        """The client, as a refusal names it."""
        if self.identity is None:
            return f"plaintext from {unmapped(self.source)}"
        return f"identity {self.identity}"

    @property
    def facts(self) -> Facts:
        """The same, as rules compare it."""
        return Facts.of(self.identity, self.source, self.port, self.destination)


@dataclass(frozen=True, slots=True)
class Denial:
    """
    What would refuse, or refused, a connection.

    `object` is named as in problems, `field` is the path in it that decided, `rule`
    the rule as the status shows it, and `reason` a sentence.
    """

    rule: str
    reason: str
    object: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Permit:
    """
    Allowed by `rule`, which is `field` of `object`.

    `would_deny`: what refuses such a connection as soon as it is no longer only
    audited; empty for a permit without any but.
    """

    rule: str
    object: str = ""
    field: str = ""
    would_deny: tuple[Denial, ...] = ()

    @property
    def audit(self) -> bool:
        """Whether something only audits what it would refuse."""
        return bool(self.would_deny)


class Denied(Refused):
    """Not allowed: `rule` is what decided, `reason` says what failed; see Denial."""

    def __init__(
        self, rule: str, reason: str, object: str = "", field: str = ""
    ) -> None:
        super().__init__(rule, reason, object, field)
        self.rule = rule
        self.reason = reason
        self.object = object
        self.field = field

    @classmethod
    def by(cls, denial: Denial) -> Denied:
        """The refusal that a denial describes."""
        return cls(denial.rule, denial.reason, denial.object, denial.field)

    def __str__(self) -> str:
        return self.reason


def authorize(request: Request, policy: InboundPolicy) -> Permit:
    """
    The permit for `request`, with the rule that gave it.

    Raises: Denied, with the object that decided and a sentence about what failed.
    """
    facts = request.facts
    istio = policy.istio
    allowed = _pass_istio(request, facts, istio) if istio is not None else None
    port = policy.ports.get(request.port)
    if port is None:
        permit = _by_default(request, policy)
    else:
        permit = _by_server(request, facts, port, policy)
    if istio is None:
        return permit
    would_deny = (*_dry_run(request, facts, istio), *permit.would_deny)
    if allowed is not None and port is None:
        return Permit(allowed.rule, allowed.object, allowed.field, would_deny)
    rule = f"{permit.rule} and {allowed.rule}" if allowed is not None else permit.rule
    return Permit(rule, permit.object, permit.field, would_deny)


def _pass_istio(request: Request, facts: Facts, istio: IstioPolicy) -> Permit | None:
    """
    The ALLOW rule that let it pass; None where there is no ALLOW policy.

    Raises: Denied.
    """
    if request.identity is None and istio.mutual_tls is not None:
        tls = istio.mutual_tls
        mandate = tls.ports.get(request.port, tls.default)
        if mandate.strict:
            rule = f"{mandate.object} {mandate.mode}"
            reason = f"{mandate.object}: {mandate.mode} refuses {request.client}"
            raise Denied(rule, reason, mandate.object, mandate.field)
    denial = _refused_by(request, facts, istio.denies)
    if denial is not None:
        raise Denied.by(denial)
    if not istio.allows:
        return None
    for rules in istio.allows:
        found = rules.first(facts)
        if found is not None:
            return Permit(found.title, found.object, found.field)
    raise Denied.by(_not_allowed(request, facts, istio.allows))


def _refused_by(
    request: Request, facts: Facts, sets: tuple[RuleSet, ...]
) -> Denial | None:
    """The first DENY rule that matches."""
    for rules in sets:
        found = rules.first(facts)
        if found is not None:
            reason = f"{found.object}: {found.field} refuses {request.client}"
            return Denial(found.title, reason, found.object, found.field)
    return None


def _not_allowed(request: Request, facts: Facts, sets: tuple[RuleSet, ...]) -> Denial:
    """No ALLOW rule matches: the narrowest scope's first policy is named."""
    rules = sets[-1]
    names = ", ".join(rules.objects[:3]) + (", ..." if len(rules.objects) > 3 else "")
    reason = f"no rule of {names} allows {request.client} to port {request.port}"
    hint = nearest(rules.rules, facts)
    if hint is None:
        return Denial(rules.objects[0], reason, rules.objects[0], "spec.rules")
    rule, constraint = hint
    reason += f"; {rule.object} {constraint.field} does not match"
    return Denial(rule.object, reason, rule.object, constraint.field)


def _dry_run(request: Request, facts: Facts, istio: IstioPolicy) -> tuple[Denial, ...]:
    """What Istio's dry-run policies would refuse, were they enforced too."""
    found: list[Denial] = []
    denial = _refused_by(request, facts, istio.dry_denies)
    if denial is not None:
        found.append(denial)
    # Where ALLOW policies are enforced, one of them has matched: more change nothing.
    if (
        istio.dry_allows
        and not istio.allows
        and not any(rules.first(facts) for rules in istio.dry_allows)
    ):
        found.append(_not_allowed(request, facts, istio.dry_allows))
    return tuple(found)


def _by_default(request: Request, policy: InboundPolicy) -> Permit:
    value = policy.default.value
    origin = policy.default_from
    rule = f"{origin} default-inbound-policy {value}"
    field = f"metadata.annotations[{DEFAULT_ANNOTATION}]"
    if origin == "configuration":
        field = "policy.default_inbound"
    fault = _refusal(request, policy.default, policy)
    if fault is not None:
        reason = f"{origin}: default {value} refuses {fault}"
        raise Denied(rule, reason, origin, field)
    if policy.default is DefaultPolicy.AUDIT:
        reason = f"{origin}: default deny would refuse {request.client}"
        return Permit(rule, origin, field, (Denial(rule, reason, origin, field),))
    return Permit(rule, origin, field)


def _by_server(
    request: Request, facts: Facts, port: PortPolicy, policy: InboundPolicy
) -> Permit:
    found = port.rules.first(facts)
    if found is not None:
        return Permit(found.object, found.object, "spec")
    access, field = port.access_policy, "spec.accessPolicy"
    fault = _refusal(request, access, policy)
    reason = f"no authorization of {port.server} matches {request.client}"
    if fault is None:
        rule = f"{port.server} accessPolicy {access.value}"
        denials: tuple[Denial, ...] = ()
        if access is DefaultPolicy.AUDIT:
            denials = (Denial(rule, reason, port.server, field),)
        return Permit(rule, port.server, field, denials)
    if access is not DefaultPolicy.DENY:
        reason += f", and its accessPolicy {access.value} refuses {fault}"
    reason += _near_miss(request, port)
    raise Denied(port.server, reason, port.server, field)


def _refusal(
    request: Request, default: DefaultPolicy, policy: InboundPolicy
) -> str | None:
    """What `default` refuses about the request, or None where it lets it through."""
    if default is DefaultPolicy.DENY:
        return request.client
    if default in _AUTHENTICATED and request.identity is None:
        return request.client
    if default in _CLUSTER:
        source = unmapped(request.source)
        if not any(source in network for network in policy.cluster_networks):
            return f"{request.client}: {source} is outside the cluster networks"
    return None


def _near_miss(request: Request, port: PortPolicy) -> str:
    """An authorization that lacked one thing only, for the person who reads this."""
    source = unmapped(request.source)
    for authorization in port.authorizations[:_HINTS]:
        by_identity = authorization.admits_identity(request.identity)
        by_source = authorization.admits_source(source)
        if by_identity and request.identity is not None:
            return f"; {authorization.name} does not admit it from {source}"
        if by_source and authorization.networks and request.identity is None:
            return f"; {authorization.name} admits {source} only with an identity"
    return ""
