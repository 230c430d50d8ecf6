"""Selectors of some pods and of no others."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.authz.groups import grouped
from agent.policy.selector import LabelSelector
from tests.unit.workload.samples import pod

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)


@given(st.lists(LABELS, min_size=1, max_size=8))
def test_exactly_these(labels: list[dict[str, str]]) -> None:
    """A group's selector selects its pods and nobody else's, whatever labels say."""
    pods = [pod(f"shop/p{i}", labels=each) for i, each in enumerate(labels)]
    groups = grouped(pods)
    assert sum(len(group.pods) for group in groups) == len(pods)
    for group in groups:
        selector = msgspec.convert(group.selector(groups), LabelSelector)
        selected = [each for each in pods if selector.selects(each.labels)]
        assert selected == list(group.pods)


def test_replicas_are_one_group() -> None:
    """What controllers write on each pod tells no pods apart."""
    pods = [
        pod(f"shop/api-{i}", labels={"app": "api", "pod-template-hash": str(i)})
        for i in range(3)
    ]
    (group,) = grouped(pods)
    assert group.name == "api"
    assert group.selector([group]) == {"matchLabels": {"app": "api"}}


def test_namespaces_are_apart() -> None:
    """The same labels in another namespace are another group, and no reason."""
    pods = [pod("shop/api", labels={"app": "api"}), pod("b/api", labels={"app": "api"})]
    groups = grouped(pods)
    assert [group.namespace for group in groups] == ["b", "shop"]
    assert all("matchExpressions" not in g.selector(groups) for g in groups)
