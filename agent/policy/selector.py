"""
Kubernetes label selectors.

Source: apimachinery's LabelSelector. Everything in one selector must hold; an empty
selector selects everything; NotIn holds where the label is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class LabelRequirement(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One of `matchExpressions`."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.operator in ("In", "NotIn"):
            if not self.values:
                raise ValueError(f"operator {self.operator} expects values")
        elif self.values:
            raise ValueError(f"operator {self.operator} expects no values")

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet this requirement."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
):
    """`matchLabels` and `matchExpressions`, all of which must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()

    @property
    def selects_all(self) -> bool:
        """Whether nothing is asked for."""
        return not self.match_labels and not self.match_expressions

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with `labels` is selected."""
        return all(
            labels.get(key) == value for key, value in self.match_labels.items()
        ) and all(requirement.holds(labels) for requirement in self.match_expressions)
