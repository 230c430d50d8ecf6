"""What a comparison rests on: nodes that were asked, and pods without a connection."""

from __future__ import annotations

from agent.authz.coverage import Unseen, unseen
from agent.authz.seen import Flow, NodeFlows, Tally

from .samples import api_policy, flow, policy, shop, spiffe, survey

NOW = survey(shop(*api_policy("web")))
CHANGED = survey(shop(*api_policy("batch")))


def node(name: str, *flows: tuple[Flow, Tally]) -> NodeFlows:
    return NodeFlows(name, 0, 100, flows)


def test_a_pod_without_a_connection() -> None:
    """Only those whose policy changes; and whether their node was asked."""
    assert unseen([node("n1")], NOW, CHANGED) == (Unseen("shop/api", "n2", False),)
    assert unseen([node("n2")], NOW, CHANGED) == (Unseen("shop/api", "n2", True),)


def test_a_pod_with_a_connection() -> None:
    """One is enough, whatever became of it."""
    seen = flow(spiffe("web"), "shop/api", allowed=0, refused=1)
    assert unseen([node("n2", seen)], NOW, CHANGED) == ()


def test_a_proposal_that_changes_no_pod() -> None:
    """Nothing has to be seen for that."""
    same = survey(
        shop(
            *api_policy("web"),
            policy("NetworkAuthentication", "shop/new", networks=[{"cidr": "::/0"}]),
        )
    )
    assert unseen([node("n1")], NOW, same) == ()
