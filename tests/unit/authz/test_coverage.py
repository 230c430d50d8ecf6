"""What a comparison rests on: nodes that were asked, and pods without a connection."""

from __future__ import annotations

from agent.authz.coverage import Coverage, Unseen, coverage
from agent.authz.seen import Flow, NodeFlows, Tally
from agent.policy.rule import DefaultPolicy

from .samples import api_policy, flow, policy, shop, spiffe, survey

NOW = survey(shop(*api_policy("web")))
CHANGED = survey(shop(*api_policy("batch")))


def node(name: str, *flows: tuple[Flow, Tally]) -> NodeFlows:
    return NodeFlows(name, 0, 100, flows)


def test_a_pod_without_a_connection() -> None:
    """Only those whose policy changes; and whether their node was asked."""
    for name, watched in (("n1", False), ("n2", True)):
        found = coverage([node(name)], NOW, CHANGED)
        assert found == Coverage(0, (Unseen("shop/api", "n2", watched),))
        assert not found.enough


def test_a_pod_with_a_connection() -> None:
    """One is enough, whatever became of it."""
    seen = flow(spiffe("web"), "shop/api", allowed=0, refused=1)
    found = coverage([node("n2", seen)], NOW, CHANGED)
    assert found == Coverage(1, ())
    assert found.enough


def test_pods_that_only_call_others() -> None:
    """They are listed, and do not matter where their nodes were asked."""
    closed = survey(shop(), DefaultPolicy.DENY)
    seen = flow(spiffe("web"), "shop/api")
    found = coverage([node("n1"), node("n2", seen)], survey(shop()), closed)
    assert found.reached == 1
    assert {each.pod for each in found.unseen} == {"shop/web", "shop/batch"}
    assert found.enough
    assert not coverage([node("n2", seen)], survey(shop()), closed).enough


def test_a_proposal_that_changes_no_pod() -> None:
    """Nothing has to be seen for that."""
    same = survey(
        shop(
            *api_policy("web"),
            policy("NetworkAuthentication", "shop/new", networks=[{"cidr": "::/0"}]),
        )
    )
    assert coverage([node("n1")], NOW, same) == Coverage(0, ())
