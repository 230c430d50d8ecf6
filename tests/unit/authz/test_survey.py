"""A cluster as manifests have it, whichever node its pods run on."""

from __future__ import annotations

from agent.policy.rule import DefaultPolicy

from .samples import api_policy, pod, shop, survey


def test_any_pod_can_be_asked_about() -> None:
    """On every node, and the policy is made once."""
    found = survey(shop(*api_policy("web")))
    api = found.workloads["shop/api"]
    assert found.policy_of(api).ports[80].server == "Server shop/api"
    assert found.policy_of(api) is found.policy_of(api)
    assert not found.policy_of(found.workloads["shop/web"]).ports


def test_pods_of_a_repository() -> None:
    """Without a node and a network namespace there is nothing wrong with them."""
    found = survey(shop(pod("shop/new", node="")), DefaultPolicy.DENY)
    assert not found.problems
    assert found.policy_of(found.workloads["shop/new"]).default is DefaultPolicy.DENY
