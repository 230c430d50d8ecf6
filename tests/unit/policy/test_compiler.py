"""One workload's policy: which Server has which port, and where the default is from."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from agent.identity.spiffe import TrustDomain
from agent.policy.compiler import (
    InboundDefaults,
    WorkloadFacts,
    compile_inbound,
)
from agent.policy.objects import PolicyObject
from agent.policy.problem import Problem
from agent.policy.references import LinkerdRules, resolve
from agent.policy.rule import DEFAULT_ANNOTATION, DefaultPolicy, InboundPolicy
from tests.unit.policy.samples import authorization, policies, ref, server

API = WorkloadFacts(
    "shop", "api", labels={"app": "api"}, ports=(("http", 8080), ("admin", 9000))
)
NETWORKS = (ipaddress.ip_network("10.0.0.0/8"),)


def compiled(
    *objects: PolicyObject, pod: WorkloadFacts = API
) -> tuple[InboundPolicy, tuple[Problem, ...]]:
    rules, _ = resolve(policies(*objects), TrustDomain("cluster.local"))
    return compile_inbound(pod, rules, InboundDefaults(cluster_networks=NETWORKS))


def owners(policy: InboundPolicy) -> dict[int, str]:
    return {number: port.server for number, port in policy.ports.items()}


class TestDefault:
    def test_the_configuration_s(self) -> None:
        """Where nobody annotated anything."""
        policy, problems = compiled()

        assert policy == InboundPolicy(
            "shop/api",
            DefaultPolicy.ALL_UNAUTHENTICATED,
            "configuration",
            {},
            cluster_networks=NETWORKS,
        )
        assert problems == ()

    @pytest.mark.parametrize("value", [policy.value for policy in DefaultPolicy])
    def test_the_namespace_s_before_the_configuration_s(self, value: str) -> None:
        """Each of Linkerd's values is known."""
        pod = replace(API, namespace_annotations={DEFAULT_ANNOTATION: value})
        policy, problems = compiled(pod=pod)

        assert (policy.default.value, policy.default_from) == (value, "Namespace shop")
        assert problems == ()

    def test_the_pod_s_before_the_namespace_s(self) -> None:
        """The nearest annotation wins."""
        pod = replace(
            API,
            annotations={DEFAULT_ANNOTATION: "all-authenticated"},
            namespace_annotations={DEFAULT_ANNOTATION: "deny"},
        )
        policy, _ = compiled(pod=pod)

        assert policy.default is DefaultPolicy.ALL_AUTHENTICATED
        assert policy.default_from == "Pod shop/api"

    @pytest.mark.parametrize("value", ["", "Deny", "allow", "all_authenticated"])
    def test_an_unknown_value_denies_and_is_reported(self, value: str) -> None:
        """Somebody asked for a policy; the strictest holds until it can be read."""
        pod = replace(
            API,
            annotations={DEFAULT_ANNOTATION: value},
            namespace_annotations={DEFAULT_ANNOTATION: "all-unauthenticated"},
        )
        policy, (problem,) = compiled(pod=pod)

        assert policy.default is DefaultPolicy.DENY
        assert problem.object == "Pod shop/api"
        assert DEFAULT_ANNOTATION in problem.field
        assert "cluster-authenticated" in problem.message

    def test_an_unreadable_server_denies_its_namespace(self) -> None:
        """Nobody can tell which ports it would have closed."""
        rules = LinkerdRules(unreadable_servers=frozenset({("shop", "broken")}))
        here, _ = compile_inbound(API, rules, InboundDefaults())
        there, _ = compile_inbound(
            replace(API, namespace="jobs"), rules, InboundDefaults()
        )

        assert here.default is DefaultPolicy.DENY
        assert here.default_from == "unreadable Server shop/broken"
        assert there.default is DefaultPolicy.ALL_UNAUTHENTICATED


class TestPorts:
    def test_by_number(self) -> None:
        """A number needs no container port of that number."""
        policy, _ = compiled(server("shop/s", 5432))

        assert owners(policy) == {5432: "Server shop/s"}

    def test_by_name(self) -> None:
        """A name is what this pod means by it."""
        policy, problems = compiled(server("shop/s", "http", app="api"))

        assert owners(policy) == {8080: "Server shop/s"}
        assert problems == ()

    def test_a_name_on_two_containers_is_both_ports(self) -> None:
        """No port of that name is left open."""
        pod = replace(API, ports=(("http", 8080), ("http", 8081), ("http", 8080)))
        policy, problems = compiled(server("shop/s", "http"), pod=pod)

        assert set(policy.ports) == {8080, 8081}
        assert problems == ()

    def test_a_name_that_the_pod_lacks_is_reported(self) -> None:
        """A misspelt port name would leave the port to the default."""
        policy, (problem,) = compiled(server("shop/s", "htpp", app="api"))

        assert policy.ports == {}
        assert (problem.object, problem.field) == ("Server shop/s", "spec.port")
        assert "no port named htpp" in problem.message

    def test_a_name_for_all_pods_may_be_missing_on_some(self) -> None:
        """A Server of every pod's metrics port is no error on pods without one."""
        assert compiled(server("shop/s", "metrics"))[1] == ()

    @pytest.mark.parametrize(
        "elsewhere", [server("jobs/s"), server("shop/s", app="web")]
    )
    def test_a_server_of_other_pods_is_not_ours(self, elsewhere: PolicyObject) -> None:
        """Another namespace or another label."""
        assert compiled(elsewhere)[0].ports == {}

    def test_brings_its_authorizations_and_access_policy(self) -> None:
        """In order of their names."""
        policy, _ = compiled(
            server("shop/s", accessPolicy="audit"),
            authorization("shop/b", ref("Server", "s")),
            authorization("shop/a", ref("Server", "s")),
        )

        port = policy.ports[80]
        assert port.access_policy is DefaultPolicy.AUDIT
        assert [item.name for item in port.authorizations] == [
            "AuthorizationPolicy shop/a",
            "AuthorizationPolicy shop/b",
        ]


class TestTwoServers:
    def test_the_first_by_name_holds_the_port(self) -> None:
        """Whichever way they come, and the other is reported."""
        first, second = server("shop/a", 8080), server("shop/b", "http")

        for objects in ((first, second), (second, first)):
            policy, (problem,) = compiled(*objects)
            assert owners(policy) == {8080: "Server shop/a"}
            assert problem.object == "Server shop/b"
            assert "port 8080 of Pod shop/api" in problem.message
            assert "Server shop/a" in problem.message

    def test_the_older_one_holds_the_port(self) -> None:
        """A new Server does not take a port that is governed already."""
        old = server("shop/z", created="2026-01-01T00:00:00Z")
        new = server("shop/a", created="2026-03-01T00:00:00Z")

        assert owners(compiled(new, old)[0]) == {80: "Server shop/z"}


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize("place", ["annotations", "namespace_annotations"])
def test_a_skipped_port_is_reported(place: str, direction: str) -> None:
    """Linkerd would take the port out of the mesh; here it stays, with a message."""
    name = f"config.linkerd.io/skip-{direction}-ports"
    written = {name: "3306"}
    facts = (
        replace(API, annotations=written)
        if place == "annotations"
        else replace(API, namespace_annotations=written)
    )

    _, problems = compile_inbound(facts, LinkerdRules(), InboundDefaults())

    assert [problem.field for problem in problems] == [f"metadata.annotations[{name}]"]
    assert "not supported" in problems[0].message
