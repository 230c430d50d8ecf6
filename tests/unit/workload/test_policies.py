"""Policy objects and one pod: resolved when they change, and only then."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from agent.addresses import parse_ip
from agent.identity.spiffe import TrustDomain
from agent.policy.compiler import InboundDefaults
from agent.policy.istio import AuthorizationPolicy, IstioPolicies
from agent.workload.model import Objects, Service, Workload
from agent.workload.policies import PolicyBook

API = Workload(
    *("u1", "shop", "api", "n1", "api", (parse_ip("10.0.0.1"),)), labels={"app": "api"}
)
POLICY = msgspec.convert(
    {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "a"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "front"}]},
    },
    AuthorizationPolicy,
)
FRONT = Service("shop", "front", selector={"app": "api"})
OBJECTS = Objects(services=(FRONT,), istio=IstioPolicies((POLICY,)))


def book() -> PolicyBook:
    return PolicyBook(TrustDomain("cluster.local"), InboundDefaults())


def test_a_service_s_policy_is_about_the_pods_behind_it() -> None:
    """By the Service's selector, in its namespace; without a selector about none."""
    mine = book()
    rules = mine.rules(OBJECTS)

    assert mine.compile(API, None, rules)[0].istio is not None
    for other in (replace(API, labels={}), replace(API, namespace="jobs")):
        assert mine.compile(other, None, rules)[0].istio is None
    bare = replace(OBJECTS, services=(replace(FRONT, selector={}),))
    assert mine.compile(API, None, mine.rules(bare))[0].istio is None


def test_what_did_not_change_is_not_resolved_again() -> None:
    """A Service that no policy is attached to changes nothing."""
    mine = book()
    first = mine.rules(OBJECTS)

    other = Service("shop", "other", selector={"app": "api"})
    assert mine.rules(replace(OBJECTS, services=(other, FRONT))) is first
    moved = replace(OBJECTS, services=(replace(FRONT, selector={"app": "x"}),))
    assert mine.rules(moved) is not first


def test_a_service_that_is_gone_is_said_to_be_missing() -> None:
    """And comes into force when it is there."""
    mine = book()
    (problem,) = mine.rules(replace(OBJECTS, services=())).problems

    assert "Service shop/front does not exist" in problem.message
    assert mine.rules(OBJECTS).problems == ()
