"""
The policy objects of all namespaces, and what they make of one pod.

What both families refer to is resolved when some policy object, or a Service that one
is attached to, changes; a pod is compiled when it or that result does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.identity.spiffe import TrustDomain
from agent.policy.compiler import InboundDefaults, WorkloadFacts, compile_inbound
from agent.policy.istio import IstioPolicies
from agent.policy.istio_scope import IstioResolver, IstioRules
from agent.policy.linkerd import LinkerdPolicies
from agent.policy.problem import Problem
from agent.policy.references import LinkerdResolver, LinkerdRules
from agent.policy.rule import InboundPolicy
from agent.workload.model import Namespace, Objects, Service, Workload


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What was resolved of one set of objects; equal to itself alone."""

    linkerd: LinkerdRules = field(default_factory=LinkerdRules)
    istio: IstioRules = field(default_factory=IstioRules)
    services: tuple[Service, ...] = ()
    problems: tuple[Problem, ...] = ()


class PolicyBook:
    """Remembers what was resolved last, as long as its objects are equal."""

    def __init__(self, trust_domain: TrustDomain, defaults: InboundDefaults) -> None:
        self._defaults = defaults
        self._linkerd = LinkerdResolver(trust_domain, defaults.federated)
        self._istio = IstioResolver(
            trust_domain,
            defaults.root_namespace,
            defaults.federated,
            only_pods=defaults.only_pods,
        )
        self._federated = defaults.federated
        self._seen: tuple[LinkerdPolicies, IstioPolicies, tuple[Service, ...]] | None
        self._seen = None
        self._rules = Rules()
        self._fresh = False

    def federate(self, federated: frozenset[TrustDomain]) -> None:
        """These foreign trust domains there are beside the configuration's."""
        federated |= self._defaults.federated
        if federated != self._federated:
            self._federated, self._seen = federated, None
            self._linkerd.federate(federated)
            self._istio.federate(federated)

    def rules(self, objects: Objects) -> Rules:
        """The rules of `objects`; the same object as before where nothing changed."""
        services = _targeted(objects)
        seen = (objects.linkerd, objects.istio, services)
        if seen != self._seen:
            linkerd, linkerd_problems = self._linkerd.resolve(objects.linkerd)
            istio, istio_problems = self._istio.resolve(
                objects.istio, ((item.namespace, item.name) for item in services)
            )
            problems = (*linkerd_problems, *istio_problems)
            self._rules = Rules(linkerd, istio, services, problems)
            self._seen, self._fresh = seen, True
        return self._rules

    def compile(
        self, pod: Workload, namespace: Namespace | None, rules: Rules
    ) -> tuple[InboundPolicy, tuple[Problem, ...]]:
        """The inbound policy of one pod, and what was wrong."""
        facts = WorkloadFacts(
            namespace=pod.namespace,
            name=pod.name,
            labels=pod.labels,
            ports=tuple((named.name, named.port) for named in pod.ports),
            annotations=pod.annotations,
            namespace_annotations=namespace.annotations if namespace else {},
            services=tuple(
                item.name for item in rules.services if _is_behind(pod, item)
            ),
        )
        return compile_inbound(facts, rules.linkerd, self._defaults, rules.istio)

    def end_round(self) -> None:
        """All pods were compiled: forget what none of them has any more."""
        if self._fresh:
            # Only then was every pod asked for, and not just those that changed.
            self._linkerd.end_round()
            self._istio.end_round()
            self._fresh = False


def _targeted(objects: Objects) -> tuple[Service, ...]:
    """The Services that some policy is attached to, as far as they exist."""
    wanted = {
        (policy.namespace, target.name)
        for policy in objects.istio.authorization_policies
        for target in policy.spec.targets
        if target.is_service
    }
    if not wanted:
        return ()
    found = (item for item in objects.services if (item.namespace, item.name) in wanted)
    return tuple(sorted(found, key=lambda item: item.key))


def _is_behind(pod: Workload, service: Service) -> bool:
    """Whether a Service selects the pod; without a selector it selects none."""
    return (
        pod.namespace == service.namespace
        and bool(service.selector)
        and all(pod.labels.get(key) == value for key, value in service.selector.items())
    )
