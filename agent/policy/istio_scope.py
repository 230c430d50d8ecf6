"""
Which of Istio's policies are about a workload: its own, its namespace's, the mesh's.

Policies without a selector are one set of rules for everybody in their scope, made
once. Those that name pods make a set for each combination of policies that some pod
has, also once: a thousand replicas share one. Results are kept between changes (see
agent.memo), so one changed policy makes anew what it is part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from agent.identity.spiffe import TrustDomain
from agent.memo import Memo
from agent.policy.index import RuleSet
from agent.policy.istio import EVERY_NAMESPACE, AuthorizationPolicy, IstioPolicies
from agent.policy.istio_remarks import Domains
from agent.policy.istio_rules import TranslatedPolicy, translate
from agent.policy.peer_authentication import (
    PeerAuthentications,
    arrange,
    mutual_tls,
)
from agent.policy.problem import Problem
from agent.policy.rule import IstioPolicy
from agent.policy.selector import LabelSelector, SelectorIndex

DEFAULT_ROOT_NAMESPACE: Final = "istio-system"

ServiceName = tuple[str, str]
"""Namespace and name."""


class _Kind(NamedTuple):
    """One of the four lists that a decision asks in turn."""

    action: str
    dry_run: bool


_DENY, _ALLOW = _Kind("DENY", dry_run=False), _Kind("ALLOW", dry_run=False)
_DRY_DENY, _DRY_ALLOW = _Kind("DENY", dry_run=True), _Kind("ALLOW", dry_run=True)

Scope = Mapping[_Kind, RuleSet]


@dataclass(frozen=True, slots=True, eq=False)
class IstioRules:
    """Istio's objects, translated and arranged by what they are about."""

    peers: PeerAuthentications = field(default_factory=PeerAuthentications)
    mesh: Scope = field(default_factory=dict)
    namespaces: Mapping[str, Scope] = field(default_factory=dict)
    selecting: SelectorIndex[TranslatedPolicy] = field(default_factory=SelectorIndex)
    of_services: Mapping[ServiceName, tuple[TranslatedPolicy, ...]] = field(
        default_factory=dict
    )
    root_namespace: str = DEFAULT_ROOT_NAMESPACE
    unreadable: frozenset[tuple[str, str]] = frozenset()
    scopes: Memo[[tuple[TranslatedPolicy, ...]], Scope] = field(
        default_factory=lambda: Memo(_scope)
    )

    def policy_for(
        self, namespace: str, labels: Mapping[str, str], services: Iterable[str] = ()
    ) -> tuple[IstioPolicy | None, tuple[Problem, ...]]:
        """
        What holds for one workload, and what was wrong; None where nothing is said.

        `services` are the names of the Services that it is an endpoint of.
        """
        unreadable = self._unreadable(namespace)
        if unreadable is not None:
            # Fail closed: nobody can tell whom it was to keep out.
            nobody = RuleSet((f"unreadable {unreadable}",), ())
            return IstioPolicy(allows=(nobody,)), ()
        scopes = [self.mesh]
        if namespace != self.root_namespace:
            scopes.append(self.namespaces.get(namespace, {}))
        own = self._own(namespace, labels, services)
        if own:
            names = tuple(item.policy.title for item in own)
            scopes.append(self.scopes(names, own))
        mtls, problems = mutual_tls(namespace, labels, self.peers)
        policy = IstioPolicy(
            denies=_sets(scopes, _DENY),
            allows=_sets(scopes, _ALLOW),
            dry_denies=_sets(scopes, _DRY_DENY),
            dry_allows=_sets(scopes, _DRY_ALLOW),
            mutual_tls=mtls,
        )
        return (policy if policy != IstioPolicy() else None), problems

    def _unreadable(self, namespace: str) -> str | None:
        """An object that may be about the namespace and cannot be read."""
        for title, within in sorted(self.unreadable):
            if within in (EVERY_NAMESPACE, namespace, self.root_namespace):
                return title
        return None

    def _own(
        self, namespace: str, labels: Mapping[str, str], services: Iterable[str]
    ) -> tuple[TranslatedPolicy, ...]:
        found = self.selecting.select(namespace, labels)
        found += self.selecting.select(self.root_namespace, labels)
        for name in services:
            found += self.of_services.get((namespace, name), ())
        unique = {item.policy.title: item for item in found}
        return tuple(unique[title] for title in sorted(unique))


class IstioResolver:
    """Makes IstioRules of the objects, and keeps what did not change."""

    def __init__(
        self,
        trust_domain: TrustDomain,
        root_namespace: str = DEFAULT_ROOT_NAMESPACE,
        federated: frozenset[TrustDomain] = frozenset(),
        *,
        only_pods: bool = True,
    ) -> None:
        """See `istio_remarks.Domains`."""
        self._domains = Domains(trust_domain, federated, only_pods)
        self._root = root_namespace
        self._translated = Memo(translate)
        self._scopes = Memo(_scope)

    def federate(self, federated: frozenset[TrustDomain]) -> None:
        """These foreign trust domains there are from now on: for warnings only."""
        self._domains = replace(self._domains, federated=federated)

    def resolve(
        self, policies: IstioPolicies, services: Iterable[ServiceName] = ()
    ) -> tuple[IstioRules, tuple[Problem, ...]]:
        """Arrange all objects; `services` are those that exist."""
        known = frozenset(services)
        problems: list[Problem] = []
        wide: dict[str, list[TranslatedPolicy]] = {}
        selecting: SelectorIndex[TranslatedPolicy] = SelectorIndex()
        of_services: dict[ServiceName, list[TranslatedPolicy]] = {}
        refused: set[tuple[str, str]] = set()
        for policy in sorted(policies.authorization_policies, key=_name):
            made = self._translated(policy.title, policy, self._domains)
            problems += made.problems
            if made.refused:
                refused.add((policy.title, policy.namespace))
            if not made.is_enforceable:
                continue
            spec = policy.spec
            if spec.targets:
                names, faults = _services(policy, known)
                problems += faults
                for name in names:
                    of_services.setdefault(name, []).append(made)
            elif spec.selector is not None and spec.selector.match_labels:
                selector = LabelSelector(match_labels=spec.selector.match_labels)
                selecting.add(policy.namespace, selector, made)
            else:
                wide.setdefault(policy.namespace, []).append(made)
        peers, of_peers = arrange(policies.peer_authentications, self._root)
        scopes = {
            name: self._scopes((name,), tuple(all_)) for name, all_ in wide.items()
        }
        self._translated.end_round()
        rules = IstioRules(
            peers=peers,
            mesh=scopes.pop(self._root, {}),
            namespaces=scopes,
            selecting=selecting,
            of_services={name: tuple(items) for name, items in of_services.items()},
            root_namespace=self._root,
            unreadable=policies.unreadable | refused,
            scopes=self._scopes,
        )
        return rules, (*problems, *of_peers)

    def end_round(self) -> None:
        """Every workload was asked for: forget the sets that nobody has."""
        self._scopes.end_round()


def _scope(policies: tuple[TranslatedPolicy, ...]) -> Scope:
    """The rules of some policies in their order, apart by what they do."""
    lists: dict[_Kind, list[TranslatedPolicy]] = {}
    for item in policies:
        kind = _Kind(item.policy.spec.action, item.policy.dry_run)
        lists.setdefault(kind, []).append(item)
    return {
        kind: RuleSet(
            tuple(item.policy.title for item in items),
            tuple(rule for item in items for rule in item.rules),
        )
        for kind, items in lists.items()
    }


def _sets(scopes: Sequence[Scope], kind: _Kind) -> tuple[RuleSet, ...]:
    return tuple(scope[kind] for scope in scopes if kind in scope)


def _services(
    policy: AuthorizationPolicy, known: frozenset[ServiceName]
) -> tuple[list[ServiceName], list[Problem]]:
    """The Services that a policy is attached to, and the targets that are none."""
    found: list[ServiceName] = []
    problems: list[Problem] = []
    for number, target in enumerate(policy.spec.targets):
        name = (policy.namespace, target.name)
        fault = None
        if not target.is_service:
            kind = f"{target.group}/{target.kind}".removeprefix("/")
            fault = f"{kind} is not enforceable, expected a Service"
        elif target.namespace not in (None, policy.namespace):
            fault = f"expected a Service of its own namespace, not {target.namespace}"
        elif name not in known:
            fault = f"Service {policy.namespace}/{target.name} does not exist"
        else:
            found.append(name)
        if fault is not None:
            message = f"{fault}; the policy has no effect by it"
            place = f"spec.targetRefs[{number}]"
            problems.append(Problem(policy.title, place, message))
    return found, problems


def _name(policy: AuthorizationPolicy) -> tuple[str, str]:
    return (policy.namespace, policy.name)
