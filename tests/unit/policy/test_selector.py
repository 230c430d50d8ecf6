"""Label selectors select what Kubernetes says they select."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.policy.selector import LabelSelector, SelectorIndex


def selector(spec: object) -> LabelSelector:
    return msgspec.convert(spec, LabelSelector)


def expression(operator: str, *values: str) -> dict[str, Any]:
    requirement = {"key": "app", "operator": operator, "values": list(values)}
    return {"matchExpressions": [requirement]}


class TestRefused:
    @pytest.mark.parametrize(
        "spec",
        [
            {"matchLables": {"app": "api"}},
            {"matchLabels": {"app": 1}},
            {"matchLabels": ["app"]},
            {"matchLabels": {"not a key": "api"}},
            {"matchLabels": {"app": "not a value"}},
            {"matchLabels": {"UPPER.example.com/app": "api"}},
            expression("in", "api"),
            expression("In"),
            expression("NotIn"),
            expression("Exists", "api"),
            expression("DoesNotExist", "api"),
            {"matchExpressions": [{"operator": "Exists"}]},
            {"matchExpressions": [{"key": "app", "operator": "Exists", "value": "x"}]},
        ],
    )
    def test_what_kubernetes_refuses(self, spec: object) -> None:
        """A misspelt selector is an error, never one that selects everything."""
        with pytest.raises(msgspec.ValidationError):
            selector(spec)


class TestSelects:
    @pytest.mark.parametrize(
        ("spec", "labels", "selected"),
        [
            ({}, {}, True),
            ({}, {"app": "api"}, True),
            ({"matchLabels": {}}, {"app": "api"}, True),
            ({"matchLabels": {"app": "api"}}, {"app": "api", "x": "y"}, True),
            ({"matchLabels": {"app": "api"}}, {"app": "web"}, False),
            ({"matchLabels": {"app": "api"}}, {}, False),
            ({"matchLabels": {"app": ""}}, {}, False),
            ({"matchLabels": {"app": "api", "x": "y"}}, {"app": "api"}, False),
            (expression("In", "api", "web"), {"app": "web"}, True),
            (expression("In", "api"), {"app": "web"}, False),
            (expression("In", "api"), {}, False),
            (expression("NotIn", "api"), {"app": "web"}, True),
            (expression("NotIn", "api"), {"app": "api"}, False),
            (expression("NotIn", "api"), {}, True),
            (expression("Exists"), {"app": ""}, True),
            (expression("Exists"), {}, False),
            (expression("DoesNotExist"), {}, True),
            (expression("DoesNotExist"), {"app": "api"}, False),
            ({"matchLabels": {"x": "y"}, **expression("Exists")}, {"app": "a"}, False),
            (
                {"matchLabels": {"x": "y"}, **expression("Exists")},
                {"app": "a", "x": "y"},
                True,
            ),
        ],
    )
    def test_table(self, spec: object, labels: dict[str, str], selected: bool) -> None:
        """Everything must hold; NotIn holds where the label is missing."""
        assert selector(spec).selects(labels) is selected


class TestIndex:
    def test_gives_items_in_the_order_they_came(self) -> None:
        """Found by a label, or by none."""
        index: SelectorIndex[str] = SelectorIndex()
        index.add("shop", selector({"matchLabels": {"app": "api"}}), "by label")
        index.add("shop", selector({}), "all")
        index.add("shop", selector({"matchLabels": {"app": "web"}}), "other")
        index.add("jobs", selector({}), "elsewhere")
        two = selector({"matchLabels": {"app": "api", "tier": "back"}})
        index.add("shop", two, "both")

        assert index.select("shop", {"app": "api"}) == ["by label", "all"]
        assert index.select("shop", {"tier": "back", "app": "api"}) == [
            *("by label", "all", "both")
        ]
        assert index.select("none", {}) == []
