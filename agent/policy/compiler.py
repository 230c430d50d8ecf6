"""
One workload's inbound policy, from the objects of both families and annotations.

Linkerd: a Server governs the ports of the pods that it selects in its own namespace;
every other port has the default, which the pod's annotation sets before its
namespace's, and the configuration where neither does. Istio: see istio_scope.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.addresses import IPNetwork
from agent.identity.spiffe import TrustDomain
from agent.policy.istio_scope import DEFAULT_ROOT_NAMESPACE, IstioRules
from agent.policy.linkerd import Server
from agent.policy.problem import Problem
from agent.policy.references import LinkerdRules
from agent.policy.rule import (
    DEFAULT_ANNOTATION,
    DefaultPolicy,
    InboundPolicy,
    PortPolicy,
)

NO_ISTIO: Final = IstioRules()


SKIP_ANNOTATIONS: Final = (
    "config.linkerd.io/skip-inbound-ports",
    "config.linkerd.io/skip-outbound-ports",
)


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """
    What policy asks about a pod; `ports` are its named ports, `services` the names of
    its namespace's Services that it is an endpoint of.
    """

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[tuple[str, int], ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundDefaults:
    """
    The configuration's default, the networks that it calls the cluster, and the
    namespace whose Istio policies are about the whole mesh.
    """

    policy: DefaultPolicy = DefaultPolicy.ALL_UNAUTHENTICATED
    cluster_networks: tuple[IPNetwork, ...] = ()
    root_namespace: str = DEFAULT_ROOT_NAMESPACE
    federated: frozenset[TrustDomain] = frozenset()
    """Foreign trust domains that the configuration names: for warnings only."""
    only_pods: bool = True
    """Whether our own identities are pods' only; see `istio_remarks.Domains`."""


def compile_inbound(
    workload: WorkloadFacts,
    rules: LinkerdRules,
    defaults: InboundDefaults,
    istio: IstioRules = NO_ISTIO,
) -> tuple[InboundPolicy, tuple[Problem, ...]]:
    """The policy of one pod, and what was wrong with what it was made from."""
    default, default_from, problems = _default(workload, rules, defaults)
    problems += _ignored(workload)
    ports: dict[int, PortPolicy] = {}
    for server in rules.servers_of(workload.namespace, workload.labels):
        numbers = tuple(_numbers(server, workload))
        if not numbers and not server.spec.selects_all:
            problems.append(_no_such_port(server, workload))
        for number in numbers:
            if number in ports:
                problems.append(_second_server(server, ports[number], workload, number))
            else:
                ports[number] = rules.port_policy(server)
    of_istio, faults = istio.policy_for(
        workload.namespace, workload.labels, workload.services
    )
    problems += faults
    policy = InboundPolicy(
        workload=f"{workload.namespace}/{workload.name}",
        default=default,
        default_from=default_from,
        ports=ports,
        cluster_networks=defaults.cluster_networks,
        istio=of_istio,
    )
    return policy, tuple(problems)


def _default(
    workload: WorkloadFacts,
    rules: LinkerdRules,
    defaults: InboundDefaults,
) -> tuple[DefaultPolicy, str, list[Problem]]:
    """The default, the object that set it, and a Problem where it is no policy."""
    for namespace, name in sorted(rules.unreadable_servers):
        if namespace == workload.namespace:
            # Fail closed: nobody can tell which ports this Server was to close.
            return DefaultPolicy.DENY, f"unreadable Server {namespace}/{name}", []
    pod = f"Pod {workload.namespace}/{workload.name}"
    for origin, written in (
        (pod, workload.annotations),
        (f"Namespace {workload.namespace}", workload.namespace_annotations),
    ):
        value = written.get(DEFAULT_ANNOTATION)
        if value is None:
            continue
        try:
            return DefaultPolicy(value), origin, []
        except ValueError:
            # Fail closed: somebody asked for a policy and we cannot tell which.
            return DefaultPolicy.DENY, origin, [_no_policy(origin, value)]
    return defaults.policy, "configuration", []


def _numbers(server: Server, workload: WorkloadFacts) -> Iterator[int]:
    """The port numbers that a Server means on this pod, each once."""
    port = server.spec.port
    if isinstance(port, int):
        yield port
    else:
        yield from sorted({number for name, number in workload.ports if name == port})


def _ignored(workload: WorkloadFacts) -> Iterator[Problem]:
    """Linkerd's annotations that would take ports out of the mesh."""
    for origin, written in (
        (f"Pod {workload.namespace}/{workload.name}", workload.annotations),
        (f"Namespace {workload.namespace}", workload.namespace_annotations),
    ):
        for name in SKIP_ANNOTATIONS:
            if name in written:
                message = "not supported: the ports stay in the mesh, under its policy"
                yield Problem(origin, f"metadata.annotations[{name}]", message)


def _no_policy(origin: str, value: str) -> Problem:
    expected = ", ".join(policy.value for policy in DefaultPolicy)
    return Problem(
        origin,
        f"metadata.annotations[{DEFAULT_ANNOTATION}]",
        f"{value[:80]!r} is not a policy, deny holds; expected one of {expected}",
    )


def _no_such_port(server: Server, workload: WorkloadFacts) -> Problem:
    return Problem(
        server.title,
        "spec.port",
        f"Pod {workload.namespace}/{workload.name}, which it selects, has no port "
        f"named {server.spec.port}",
    )


def _second_server(
    server: Server, holder: PortPolicy, workload: WorkloadFacts, number: int
) -> Problem:
    return Problem(
        server.title,
        "spec.port",
        f"port {number} of Pod {workload.namespace}/{workload.name} already belongs "
        f"to {holder.server}, which stays in force",
    )
