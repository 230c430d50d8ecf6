"""
Istio's AuthorizationPolicies as rules of the one model.

As Istio compiles them for its own L4 proxy: a rule of an ALLOW policy that needs HTTP
never matches, one of a DENY policy keeps what can be told without, and where nothing
is left it refuses nothing. So the result is never wider than what was asked for,
except in that last case; each is a Problem.

Source: istio.io, "Authorization Policy" reference and "Layer 4 security policy" of
ambient mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from agent.identity.spiffe import TrustDomain
from agent.policy.istio import (
    AuthorizationPolicy,
    Condition,
    From,
    Operation,
    PolicyRule,
    Source,
    pattern,
)
from agent.policy.istio_remarks import CLUSTER_LOCAL, Domains, remarks
from agent.policy.match import (
    Attribute,
    Constraint,
    Pattern,
    Rule,
    Term,
    TextForm,
    Value,
)
from agent.policy.objects import parse_network
from agent.policy.problem import Problem

_IDENTITY: Final = frozenset(
    {
        Attribute.PRINCIPAL,
        Attribute.NAMESPACE,
        Attribute.ACCOUNT,
        Attribute.TRUST_DOMAIN,
    }
)
_CONDITIONS: Final = {
    "source.principal": Attribute.PRINCIPAL,
    "source.namespace": Attribute.NAMESPACE,
    "source.serviceAccount": Attribute.ACCOUNT,
    "source.ip": Attribute.SOURCE,
    "destination.ip": Attribute.DESTINATION,
    "destination.port": Attribute.PORT,
}


@dataclass(frozen=True, slots=True, eq=False)
class TranslatedPolicy:
    """One policy's rules, and what of it cannot be enforced."""

    policy: AuthorizationPolicy
    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]
    refused: bool = False
    """By one of the problems: it counts as one that cannot be read."""

    @property
    def is_enforceable(self) -> bool:
        """Whether it takes part in decisions at all."""
        return self.policy.spec.action in ("ALLOW", "DENY")


def translate(policy: AuthorizationPolicy, domains: Domains) -> TranslatedPolicy:
    """The rules of one policy, in its order."""
    trust_domain = domains.own
    names = _Names(policy.namespace, trust_domain)
    title, action = policy.title, policy.spec.action
    if action not in ("ALLOW", "DENY"):
        message = (
            f"{action} is not enforceable, expected ALLOW or DENY; it has no effect"
        )
        return TranslatedPolicy(policy, (), (Problem(title, "spec.action", message),))
    rules: list[Rule] = []
    problems: list[Problem] = []
    refused = False
    for number, written in enumerate(policy.spec.rules):
        path = f"spec.rules[{number}]"
        opens, found = remarks(policy, written, path, domains)
        problems += found
        refused = refused or opens
        needs_http = list(_needs_http(written, path))
        terms = tuple(_terms(written, path, names))
        if needs_http:
            problems.append(_reported(policy, path, needs_http, terms))
        if needs_http and action == "ALLOW":
            continue
        if terms:
            rules.append(Rule(title, path, terms))
        if action == "ALLOW" and any(_admits_plaintext(term) for term in terms):
            problems.append(_plaintext(title, path))
    return TranslatedPolicy(policy, tuple(rules), tuple(problems), refused)


def _needs_http(rule: PolicyRule, path: str) -> Iterator[str]:
    """The fields of a rule that cannot be told at the connection."""
    for number, source in enumerate(rule.from_ or ()):
        for name in source.source.unenforceable:
            yield f"{path}.from[{number}].source.{name}"
    for number, to in enumerate(rule.to or ()):
        for name in to.operation.unenforceable:
            yield f"{path}.to[{number}].operation.{name}"
    for number, condition in enumerate(rule.when):
        if not condition.is_enforceable:
            yield f"{path}.when[{number}] {condition.key}"


def _reported(
    policy: AuthorizationPolicy,
    path: str,
    needs_http: list[str],
    terms: tuple[Term, ...],
) -> Problem:
    fields = ", ".join(name.removeprefix(f"{path}.") for name in needs_http)
    if policy.spec.action == "ALLOW":
        effect = "so this rule lets nobody in"
    elif terms:
        effect = "so it refuses more than it says: it is enforced without them"
    else:
        effect = "and nothing is left of the rule without HTTP, so it refuses nothing"
    message = f"{fields} not enforceable, podlock does not read HTTP; {effect}"
    return Problem(policy.title, path, message)


@dataclass(frozen=True, slots=True)
class _Names:
    """How a policy's names are completed: its namespace, and our trust domain."""

    namespace: str
    trust_domain: TrustDomain

    def principals(self, texts: tuple[str, ...]) -> tuple[Value, ...]:
        """`cluster.local/` is the mesh's own trust domain, as Istio reads it."""
        head = f"{CLUSTER_LOCAL}/"
        return _texts(
            tuple(
                f"{self.trust_domain}/{text.removeprefix(head)}"
                if text.startswith(head)
                else text
                for text in texts
            )
        )

    def domains(self, texts: tuple[str, ...]) -> tuple[Value, ...]:
        own = str(self.trust_domain)
        return _texts(tuple(own if text == CLUSTER_LOCAL else text for text in texts))

    def accounts(self, texts: tuple[str, ...]) -> tuple[Value, ...]:
        names = (text if "/" in text else f"{self.namespace}/{text}" for text in texts)
        return tuple(Pattern(TextForm.EXACT, name) for name in names)


def _terms(rule: PolicyRule, path: str, names: _Names) -> Iterator[Term]:
    """One term for each source; all with the same operations and conditions."""
    common = _operations(rule, path)
    if common is None:
        return
    for number, condition in enumerate(rule.when):
        constraints = _condition(condition, f"{path}.when[{number}]", names)
        if not constraints:
            return  # nothing to tell it by: it never holds
        common += constraints
    if not rule.from_:
        yield Term(common)
    for number, source in enumerate(rule.from_ or ()):
        place = f"{path}.from[{number}].source"
        constraints = tuple(_source(source, place, names))
        if constraints:
            yield Term((*constraints, *common))


def _source(item: From, path: str, names: _Names) -> Iterator[Constraint]:
    source: Source = item.source
    for field, attribute, values in (
        ("principals", Attribute.PRINCIPAL, names.principals(source.principals)),
        (
            "notPrincipals",
            Attribute.PRINCIPAL,
            names.principals(source.not_principals),
        ),
        ("trustDomains", Attribute.TRUST_DOMAIN, names.domains(source.trust_domains)),
        (
            "notTrustDomains",
            Attribute.TRUST_DOMAIN,
            names.domains(source.not_trust_domains),
        ),
        ("namespaces", Attribute.NAMESPACE, _texts(source.namespaces)),
        ("notNamespaces", Attribute.NAMESPACE, _texts(source.not_namespaces)),
        (
            "serviceAccounts",
            Attribute.ACCOUNT,
            names.accounts(source.service_accounts),
        ),
        (
            "notServiceAccounts",
            Attribute.ACCOUNT,
            names.accounts(source.not_service_accounts),
        ),
        ("ipBlocks", Attribute.SOURCE, _networks(source.ip_blocks)),
        ("notIpBlocks", Attribute.SOURCE, _networks(source.not_ip_blocks)),
    ):
        if values:
            negative = field.startswith("not")
            yield Constraint(attribute, values, f"{path}.{field}", negative)


def _operations(rule: PolicyRule, path: str) -> tuple[Constraint, ...] | None:
    """
    The ports of all operations, any of which is enough, as one constraint; or None
    where no operation can be told. Ports are few or all but a few, so their union is.
    """
    operations = [item.operation for item in rule.to or ()]
    if not operations:
        return ()
    if len(operations) == 1:
        return _ports(operations[0], f"{path}.to[0].operation") or None
    known = [item for item in operations if item.ports or item.not_ports]
    listed: set[int] = set()
    excluded: set[int] | None = None
    for operation in known:
        ports, others = {*_numbers(operation.ports)}, {*_numbers(operation.not_ports)}
        if ports:
            listed |= ports - others
        else:
            excluded = others if excluded is None else excluded & others
    if not known:
        return None
    if excluded is None:
        return (Constraint(Attribute.PORT, tuple(sorted(listed)), f"{path}.to"),)
    left = tuple(sorted(excluded - listed))
    return (Constraint(Attribute.PORT, left, f"{path}.to", negative=True),)


def _ports(operation: Operation, path: str) -> tuple[Constraint, ...]:
    found: list[Constraint] = []
    if operation.ports:
        ports = tuple(_numbers(operation.ports))
        found.append(Constraint(Attribute.PORT, ports, f"{path}.ports"))
    if operation.not_ports:
        ports = tuple(_numbers(operation.not_ports))
        place = f"{path}.notPorts"
        found.append(Constraint(Attribute.PORT, ports, place, negative=True))
    return tuple(found)


def _condition(
    condition: Condition, path: str, names: _Names
) -> tuple[Constraint, ...]:
    attribute = _CONDITIONS.get(condition.key)
    if attribute is None:
        return ()
    found: list[Constraint] = []
    for field, texts, negative in (
        ("values", condition.values, False),
        ("notValues", condition.not_values, True),
    ):
        if texts:
            values = _values(attribute, texts, names)
            found.append(Constraint(attribute, values, f"{path}.{field}", negative))
    return tuple(found)


def _values(
    attribute: Attribute, texts: tuple[str, ...], names: _Names
) -> tuple[Value, ...]:
    if attribute is Attribute.PORT:
        return tuple(_numbers(texts))
    if attribute in (Attribute.SOURCE, Attribute.DESTINATION):
        return _networks(texts)
    if attribute is Attribute.PRINCIPAL:
        return names.principals(texts)
    if attribute is Attribute.ACCOUNT:
        return names.accounts(texts)
    return _texts(texts)


def _texts(texts: tuple[str, ...]) -> tuple[Value, ...]:
    return tuple(pattern(text) for text in texts)


def _networks(texts: tuple[str, ...]) -> tuple[Value, ...]:
    return tuple(parse_network(text) for text in texts)


def _numbers(ports: Iterable[str]) -> Iterator[int]:
    return (int(port) for port in ports)


def _admits_plaintext(term: Term) -> bool:
    """
    Whether identities are asked for by exclusion alone.

    Who has no identity is none of those that are excluded.
    """
    asked = [item for item in term.constraints if item.attribute in _IDENTITY]
    return bool(asked) and all(item.negative for item in asked)


def _plaintext(title: str, path: str) -> Problem:
    message = (
        "excludes identities and demands none, so it lets plaintext in, as Istio "
        'does; add principals: ["*"] to demand mutual TLS'
    )
    return Problem(title, f"{path}.from", message)
