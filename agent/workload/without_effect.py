"""
The policies of a set of objects that change nothing: for a warning. Pure.

Worked out when it is asked for, and not at each change: nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.identity.spiffe import TrustDomain
from agent.policy import without_effect as judge
from agent.policy.istio_remarks import Domains
from agent.policy.istio_rules import translate
from agent.policy.population import Population
from agent.policy.problem import Problem
from agent.policy.references import LinkerdResolver
from agent.workload.model import Objects


class EffectJudge:
    """Remembers what it said last, as long as nothing changed."""

    def __init__(self, trust_domain: TrustDomain, root_namespace: str) -> None:
        self._trust_domain = trust_domain
        self._root = root_namespace
        self._last: tuple[Objects, tuple[Problem, ...]] | None = None

    def __call__(self, objects: Objects, *, whole: bool = True) -> tuple[Problem, ...]:
        """
        A warning for each policy, or part of one, without effect.

        `objects`' pods are meshed as the registry settled them. Not `whole`: some
        manifests, in which a namespace without a pod may have pods all the same.
        """
        if self._last is None or self._last[0] is not objects:
            found = tuple(dict.fromkeys(self._found(objects, whole=whole)))
            self._last = (objects, found)
        return self._last[1]

    def _found(self, objects: Objects, *, whole: bool) -> Iterator[Problem]:
        pods = [pod for pod in objects.workloads if not pod.finished]
        all_pods = Population((pod.namespace, pod.labels) for pod in pods)
        meshed = (pod for pod in pods if pod.meshed or not whole)
        world = judge.World(
            all_pods,
            Population((pod.namespace, pod.labels) for pod in meshed),
            {(item.namespace, item.name): item.selector for item in objects.services},
            self._root,
            whole,
        )
        yield from judge.of_selectors(objects.linkerd, objects.istio, world)
        yield from judge.of_references(objects.linkerd, whole=whole)
        rules, _ = LinkerdResolver(self._trust_domain).resolve(objects.linkerd)
        yield from judge.of_authorizations(rules)
        translated = (
            (policy, translate(policy, Domains(self._trust_domain)).rules)
            for policy in objects.istio.authorization_policies
        )
        yield from judge.of_rules(translated, self._root)
