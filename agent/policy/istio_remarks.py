"""
What Istio's policies allow and probably do not mean: names and networks. Pure.

A name that no client can have is a warning where it admits no client, and a reason to
refuse the policy where it excludes clients: the policy would exclude none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.identity.spiffe import SCHEME, SpiffeId, TrustDomain
from agent.policy.istio import PRINCIPAL_KEY, AuthorizationPolicy, PolicyRule
from agent.policy.objects import host_bits
from agent.policy.problem import Problem

CLUSTER_LOCAL: Final = "cluster.local"
"""What Istio's policies call the mesh's own trust domain, whatever its name."""


@dataclass(frozen=True, slots=True)
class Domains:
    """
    Whose identities there can be: our `own` trust domain's and the `federated` ones'.

    `only_pods`: ours are pods', since Podlock's authority issues no others; those of a
    SPIFFE agent may have any path.
    """

    own: TrustDomain
    federated: frozenset[TrustDomain] = frozenset()
    only_pods: bool = True


def remarks(
    policy: AuthorizationPolicy, rule: PolicyRule, path: str, domains: Domains
) -> tuple[bool, list[Problem]]:
    """
    What is allowed and probably not meant; and whether the rule would let in whom it
    is to keep out, since nothing can have a name of it.
    """
    opens = False
    found: list[Problem] = []
    for place, text, excluded in _principals(rule, path):
        message = _no_identity(text, domains)
        if message is None:
            continue
        keeps_out = excluded is (policy.spec.action == "ALLOW")
        if keeps_out and _is_ours(text, domains):
            opens = True
            message += (
                " and excludes no client; the namespace is closed until it is corrected"
            )
        found.append(Problem(policy.title, place, message))
    for place, text in _addresses(rule, path):
        network = host_bits(text)
        if network is not None:
            message = f"{text} has host bits; {network} holds"
            found.append(Problem(policy.title, place, message))
    return opens, found


def _is_ours(text: str, domains: Domains) -> bool:
    """Whether a principal, or the beginning of some, names our own trust domain."""
    domain, slash, _ = text.partition("/")
    own = (CLUSTER_LOCAL, str(domains.own))
    return domains.only_pods and bool(slash) and domain in own


def _no_identity(text: str, domains: Domains) -> str | None:
    """Why no client has such a principal; None where one can."""
    if "*" in text:
        return _no_such_identity(text, domains)
    identity = SpiffeId.parse(f"{SCHEME}{text}")
    domain = identity.trust_domain
    if str(domain) not in (CLUSTER_LOCAL, str(domains.own)):
        return None if domain in domains.federated else _foreign(text, str(domain))
    return None if identity.namespace is not None else _no_pod(text, domains)


def _no_such_identity(text: str, domains: Domains) -> str | None:
    """The same for `text*` and `*text`; one that a federated domain may have passes."""
    parts = text.strip("*").split("/")
    if text.startswith("*"):
        possible = len(parts) <= len(_FORM) and all(
            _fits(part, form, cut=number == len(parts) - 1, start=False)
            for number, (part, form) in enumerate(
                zip(reversed(parts), reversed(_FORM), strict=False)
            )
        )
        return None if possible or domains.federated else _no_pod(text, domains)
    if len(parts) == 1:
        return None
    if parts[0] not in (CLUSTER_LOCAL, str(domains.own)):
        known = parts[0] in map(str, domains.federated)
        return None if known else _foreign(text, parts[0])
    possible = len(parts) <= len(_FORM) and all(
        _fits(part, form, cut=number == len(parts) - 1, start=True)
        for number, (part, form) in enumerate(zip(parts, _FORM, strict=False))
    )
    return None if possible else _no_pod(text, domains)


# TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT; None for what may be any name.
_FORM: Final = (None, "ns", None, "sa", None)


def _fits(part: str, form: str | None, *, cut: bool, start: bool) -> bool:
    """Whether a part of a pattern can be this one; the part at the `*` may be cut."""
    if form is None:
        return cut or bool(part)
    if not cut:
        return part == form
    return form.startswith(part) if start else form.endswith(part)


def _foreign(text: str, domain: str) -> str:
    return f"{text}: {domain} is no trust domain of this mesh; it matches no pod"


def _no_pod(text: str, domains: Domains) -> str:
    return (
        f"{text} is no pod's identity, which is "
        f"{domains.own}/ns/NAMESPACE/sa/SERVICE-ACCOUNT; it matches no pod"
    )


def _principals(rule: PolicyRule, path: str) -> Iterator[tuple[str, str, bool]]:
    """Place, text, and whether it is one that is excluded."""
    for number, item in enumerate(rule.from_ or ()):
        place = f"{path}.from[{number}].source"
        for text in item.source.principals:
            yield f"{place}.principals", text, False
        for text in item.source.not_principals:
            yield f"{place}.notPrincipals", text, True
    for number, condition in enumerate(rule.when):
        if condition.key == PRINCIPAL_KEY:
            for text in condition.values:
                yield f"{path}.when[{number}]", text, False
            for text in condition.not_values:
                yield f"{path}.when[{number}]", text, True


def _addresses(rule: PolicyRule, path: str) -> Iterator[tuple[str, str]]:
    for number, item in enumerate(rule.from_ or ()):
        place = f"{path}.from[{number}].source"
        for text in item.source.ip_blocks:
            yield f"{place}.ipBlocks", text
        for text in item.source.not_ip_blocks:
            yield f"{place}.notIpBlocks", text
    for number, condition in enumerate(rule.when):
        if condition.key.endswith(".ip") and condition.is_enforceable:
            for text in (*condition.values, *condition.not_values):
                yield f"{path}.when[{number}]", text
