"""A proposal, judged by what has been seen."""

from __future__ import annotations

from agent.authz.compare import compare
from agent.authz.survey import Survey
from agent.policy.rule import DefaultPolicy

from .samples import api_policy, flow, shop, spiffe, survey

FLOWS = [flow(spiffe("web")), flow(spiffe("batch")), flow("10.0.9.9")]


def names(now: Survey, then: Survey) -> dict[str, str]:
    found = compare(FLOWS, now, then).differences
    return {
        each.flow.client: f"{each.before.allowed} {each.after.allowed}"
        for each in found
    }


def test_would_be_refused() -> None:
    """Who is let in today and not by the proposal, with the proposal's reason."""
    now, then = survey(shop()), survey(shop(*api_policy("web")))
    comparison = compare(FLOWS, now, then)
    refused = {each.flow.client: each for each in comparison.differences}
    assert refused.keys() == {spiffe("batch"), "10.0.9.9"}
    assert comparison.same == 1
    assert "Server shop/api" in refused[spiffe("batch")].after.reason


def test_would_be_allowed() -> None:
    """And the other way round."""
    now, then = survey(shop(*api_policy("web"))), survey(shop(*api_policy("batch")))
    assert names(now, then) == {
        spiffe("web"): "True False",
        spiffe("batch"): "False True",
    }


def test_audit_is_a_change() -> None:
    """From allowed to allowed-and-logged, too."""
    now, then = survey(shop()), survey(shop(), DefaultPolicy.AUDIT)
    assert len(compare(FLOWS, now, then).differences) == 3


def test_worst_address() -> None:
    """A client that came from two addresses keeps its way only from both."""
    then = survey(shop(*api_policy(cidr="10.0.1.1/32")))
    both = [flow(spiffe("web"), "shop/api", 80, "10.0.1.1", "10.0.1.7")]
    (difference,) = compare(both, survey(shop()), then).differences
    assert "10.0.1.7" in difference.after.reason


def test_gone() -> None:
    """Connections of a pod that is gone are named, and not judged."""
    comparison = compare(
        [flow(spiffe("web"), "shop/old")], survey(shop()), survey(shop())
    )
    assert [each.destination for each in comparison.gone] == ["shop/old"]
    assert comparison.same == 0
