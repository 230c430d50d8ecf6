"""Which policies are about whom; what is unreadable closes; replicas share."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.addresses import parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.decision import Denied, Request, authorize
from agent.policy.istio import AuthorizationPolicy, IstioPolicies
from agent.policy.istio_scope import IstioResolver, IstioRules
from agent.policy.rule import DefaultPolicy, InboundPolicy, IstioPolicy
from tests.unit.policy.tables.block import compiled

WEB = Request(SpiffeId.parse("spiffe://td/ns/a/sa/b"), parse_ip("10.0.0.1"), 80)


def policy(name: str, spec: Any) -> AuthorizationPolicy:
    namespace, _, short = name.partition("/")
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": namespace, "name": short},
        "spec": spec,
    }
    return msgspec.convert(document, AuthorizationPolicy)


def policy_for(rules: IstioRules, namespace: str, **labels: str) -> IstioPolicy | None:
    return rules.policy_for(namespace, labels)[0]


class TestUnreadable:
    @pytest.mark.parametrize("within", ["shop", "istio-system"])
    def test_nobody_gets_in(self, within: str) -> None:
        """Of its namespace, or of all; whatever other policies allow."""
        title = f"Istio AuthorizationPolicy {within}/a"
        rules, _ = IstioResolver(TrustDomain("cluster.local")).resolve(
            IstioPolicies(
                (policy("shop/all", {"rules": [{}]}),),
                unreadable=frozenset({(title, within)}),
            )
        )
        inbound = InboundPolicy(
            "shop/api",
            DefaultPolicy.ALL_UNAUTHENTICATED,
            istio=policy_for(rules, "shop"),
        )

        with pytest.raises(Denied, match=f"unreadable {title}"):
            authorize(WEB, inbound)
        assert (policy_for(rules, "jobs") is None) is (within == "shop")


class TestMemory:
    def test_replicas_share_one_set_of_rules(self) -> None:
        """And so do all pods of a namespace what is about the namespace."""
        selector = {"matchLabels": {"app": "api"}}
        rules, _ = IstioResolver(TrustDomain("cluster.local")).resolve(
            IstioPolicies(
                (policy("shop/ns", {}), policy("shop/api", {"selector": selector}))
            )
        )
        one = policy_for(rules, "shop", app="api", replica="1")
        two = policy_for(rules, "shop", app="api", replica="2")
        other = policy_for(rules, "shop", app="cart")

        assert one is not None
        assert two is not None
        assert other is not None
        assert [id(rules) for rules in one.allows] == [id(it) for it in two.allows]
        assert other.allows[0] is one.allows[0]
        assert len(other.allows) == 1

    def test_one_change_makes_anew_what_it_is_part_of(self) -> None:
        """The rest is the same object."""
        resolver = IstioResolver(TrustDomain("cluster.local"))
        here, there = policy("shop/a", {}), policy("jobs/a", {})
        before, _ = resolver.resolve(IstioPolicies((here, there)))
        after, _ = resolver.resolve(
            IstioPolicies((policy("shop/a", {"rules": [{}]}), there))
        )

        jobs, shop = policy_for(before, "jobs"), policy_for(before, "shop")
        assert jobs is not None
        assert policy_for(after, "jobs") == jobs
        assert policy_for(after, "shop") != shop


class TestProblems:
    def test_targets_that_lead_nowhere(self) -> None:
        """What does not exist, is of another namespace, or is no Service of ours."""
        found = compiled(
            """
            Istio AuthorizationPolicy shop/a:
              targetRefs:
              - {kind: Service, name: missing}
              - {kind: Service, name: api, namespace: jobs}
              - {kind: Gateway, group: gateway.networking.k8s.io, name: in}
              - {kind: Service, name: api}
            """
        )

        assert [
            (item.field, item.message.partition(";")[0]) for item in found.problems
        ] == [
            ("spec.targetRefs[0]", "Service shop/missing does not exist"),
            (
                "spec.targetRefs[1]",
                "expected a Service of its own namespace, not jobs",
            ),
            (
                "spec.targetRefs[2]",
                "gateway.networking.k8s.io/Gateway is not enforceable, "
                "expected a Service",
            ),
        ]
