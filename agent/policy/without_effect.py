"""
Policies that are valid and change nothing: for a warning. Pure.

A selector that matches no pod, an authentication that no policy requires, a target
without pods, a rule that another one covers. Nothing of it is refused: the pods may
come tomorrow. The cost grows with the objects, not with policies times pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.policy.istio import AuthorizationPolicy, IstioPolicies
from agent.policy.linkerd import GROUP, LinkerdPolicies
from agent.policy.match import Rule
from agent.policy.objects import PolicyObject
from agent.policy.population import Population
from agent.policy.problem import Problem
from agent.policy.reference_index import ObjectName
from agent.policy.references import LinkerdRules
from agent.policy.rule import Authorization
from agent.policy.selector import LabelSelector
from agent.policy.shadowed import Covers, first_cover

# Beyond so many nothing is said about rules that cover others: it would take seconds.
MAX_RULES: Final = 10_000


@dataclass(frozen=True, slots=True)
class World:
    """
    What policies are about. `enrolled` are pods in the mesh, `pods` all of them.

    `services`: the selector of each Service. `is_whole`: a namespace without a pod has
    none; else only the namespaces that have pods are known.
    """

    pods: Population
    enrolled: Population
    services: Mapping[ObjectName, Mapping[str, str]] = field(default_factory=dict)
    root_namespace: str = ""
    is_whole: bool = True

    def missing(
        self, namespace: str | None, selector: LabelSelector | None
    ) -> str | None:
        """Why a selector has no effect, None where it has one or nothing is known."""
        if self.enrolled.has(namespace, selector):
            return None
        if not self.is_whole and not (namespace and self.pods.knows(namespace)):
            return None
        if self.pods.has(namespace, selector):
            return "matches only pods that are not in the mesh"
        return "matches no pod"


def of_selectors(
    linkerd: LinkerdPolicies, istio: IstioPolicies, world: World
) -> Iterator[Problem]:
    """Selectors and targets that match no pod of the mesh."""
    for server in linkerd.servers:
        selector = server.spec.pod_selector
        if selector is not None:
            fault = world.missing(server.namespace, selector)
            yield from _warned(server, "spec.podSelector", fault)
    for policy in istio.authorization_policies:
        if policy.spec.targets:
            yield from _targets(policy, world)
        else:
            labels = policy.spec.selector.match_labels if policy.spec.selector else {}
            yield from _istio(policy, labels, world)
    for item in istio.peer_authentications:
        if not item.spec.selects_pods or item.namespace != world.root_namespace:
            labels = item.spec.selector.match_labels if item.spec.selector else {}
            yield from _istio(item, labels, world)


def _istio(
    item: PolicyObject, labels: Mapping[str, str], world: World
) -> Iterator[Problem]:
    everywhere = item.namespace == world.root_namespace
    selector = LabelSelector(match_labels=dict(labels))
    fault = world.missing(None if everywhere else item.namespace, selector)
    yield from _warned(item, "spec.selector" if labels else "metadata.namespace", fault)


def _targets(policy: AuthorizationPolicy, world: World) -> Iterator[Problem]:
    """Services that have no pod behind them; those that are missing are reported."""
    for number, target in enumerate(policy.spec.targets):
        name = (policy.namespace, target.name)
        if not target.is_service or name not in world.services:
            continue
        place, labels = f"spec.targetRefs[{number}]", world.services[name]
        service = f"Service {policy.namespace}/{target.name}"
        if not labels:
            fault: str | None = "has no selector, by which its pods are found"
        else:
            selector = LabelSelector(match_labels=dict(labels))
            fault = world.missing(policy.namespace, selector)
            if fault == "matches no pod":
                fault = "has no endpoints: its selector matches no pod"
        yield from _warned(policy, place, fault and f"{service} {fault}")


def _warned(item: PolicyObject, place: str, fault: str | None) -> Iterator[Problem]:
    if fault is not None:
        yield Problem(item.title, place, f"{fault}; it has no effect")


def of_references(linkerd: LinkerdPolicies, *, whole: bool = True) -> Iterator[Problem]:
    """
    Authentications that no policy requires, and policies that reach no Server.

    Of some manifests, not `whole`, that have no such policy or Server nothing is said.
    """
    if whole or linkerd.authorization_policies:
        yield from _unused(linkerd)
    if whole or linkerd.servers:
        yield from _without_server(linkerd)


def _unused(linkerd: LinkerdPolicies) -> Iterator[Problem]:
    required = {
        (ref.kind, ref.namespace or policy.namespace, ref.name)
        for policy in linkerd.authorization_policies
        for ref in policy.spec.required_authentication_refs
        if ref.group == GROUP
    }
    for item in (*linkerd.mesh_tls_authentications, *linkerd.network_authentications):
        if (item.kind, item.namespace, item.name) not in required:
            message = "no AuthorizationPolicy requires it; it has no effect"
            yield Problem(item.title, "", message)


def _without_server(linkerd: LinkerdPolicies) -> Iterator[Problem]:
    servers: dict[str, list[Mapping[str, str]]] = {}
    for server in linkerd.servers:
        servers.setdefault(server.namespace, []).append(server.metadata.labels)
    for policy in linkerd.authorization_policies:
        whole = policy.spec.target_ref.is_kind("", "Namespace")
        if whole and policy.namespace not in servers:
            message = "the namespace has no Server; it has no effect"
            yield Problem(policy.title, "spec.targetRef", message)
    labelled = Population(
        (namespace, labels) for namespace, all_ in servers.items() for labels in all_
    )
    for item in linkerd.server_authorizations:
        selector = item.spec.server.selector
        if selector is not None and not labelled.has(item.namespace, selector):
            message = "selects no Server; it has no effect"
            yield Problem(item.title, "spec.server.selector", message)


def of_authorizations(rules: LinkerdRules) -> Iterator[Problem]:
    """Authorizations that others cover on every Server that they are about."""
    covered: dict[str, str | None] = {}
    made: dict[int, Rule] = {}
    if sum(map(len, rules.authorizations.values())) > MAX_RULES:
        return
    # Servers of a namespace often have the same ones: each such set is asked once.
    for own in {tuple(map(id, o)): o for o in rules.authorizations.values()}.values():
        each_rule = [_rule_of(authorization, made) for authorization in own]
        covers = Covers.of(each_rule)
        for rule in each_rule:
            if covered.get(rule.object, "") is None or not rule.terms:
                continue
            cover = covers.covering(rule, same=False)
            covered[rule.object] = cover.object if cover is not None else None
    for title, other in covered.items():
        if other is not None:
            message = f"{other} admits every client that it admits; it has no effect"
            yield Problem(title, "spec", message)


def _rule_of(authorization: Authorization, made: dict[int, Rule]) -> Rule:
    # The same authorization is about many Servers.
    key = id(authorization)
    if key not in made:
        made[key] = authorization.rule()
    return made[key]


@dataclass(slots=True)
class _Scope:
    """Rules that hold for the same pods, by what they do."""

    denies: list[Rule] = field(default_factory=list)
    allows: list[Rule] = field(default_factory=list)


def of_rules(
    policies: Iterable[tuple[AuthorizationPolicy, tuple[Rule, ...]]],
    root_namespace: str,
) -> Iterator[Problem]:
    """Istio's rules that others of the same pods, or of more, cover."""
    scopes: dict[tuple[str, object], _Scope] = {}
    count = 0
    for policy, rules in policies:
        if policy.dry_run:
            continue
        count += sum(len(rule.terms) for rule in rules)
        if count > MAX_RULES:
            return
        scope = scopes.setdefault((policy.namespace, _pods_of(policy)), _Scope())
        if policy.spec.action == "DENY":
            scope.denies += rules
        else:
            scope.allows += rules
    made = {
        key: (Covers.of(scope.denies), Covers.of(scope.allows))
        for key, scope in scopes.items()
    }
    for (namespace, pods), scope in scopes.items():
        wider = [(root_namespace, None)]
        wider += [(namespace, None)] if namespace != root_namespace else []
        found = [made[key] for key in wider if key in made and key != (namespace, pods)]
        denies, allows = made[namespace, pods]
        wider_denies = [each for each, _ in found]
        wider_allows = [each for _, each in found]
        for rule in scope.denies:
            cover = first_cover(rule, wider_denies, denies)
            yield from _superfluous(rule, cover, "refuses all that it refuses")
        for rule in scope.allows:
            refused = first_cover(rule, [denies, *wider_denies], Covers())
            yield from _superfluous(rule, refused, "refuses all that it allows")
            if refused is None:
                cover = first_cover(rule, wider_allows, allows)
                yield from _superfluous(rule, cover, "allows all that it allows")


def _pods_of(policy: AuthorizationPolicy) -> object:
    """What stands for the pods that a policy is about; None for the namespace's."""
    if policy.spec.targets:
        return tuple(sorted(target.name for target in policy.spec.targets))
    selector = policy.spec.selector
    if selector is None or not selector.match_labels:
        return None
    return frozenset(selector.match_labels.items())


def _superfluous(rule: Rule, cover: Rule | None, does: str) -> Iterator[Problem]:
    if cover is not None and rule.terms:
        message = f"{cover.object} {cover.field} {does}; it has no effect"
        yield Problem(rule.object, rule.field, message)
