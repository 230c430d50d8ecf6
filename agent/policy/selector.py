"""
Kubernetes label selectors.

Source: apimachinery's LabelSelector. Everything in one selector must hold; an empty
selector selects everything; NotIn holds where the label is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec

T = TypeVar("T")

# Kubernetes' label syntax: an optional DNS prefix, then a name of at most 63.
_NAME: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
LabelKey = Annotated[
    str,
    msgspec.Meta(pattern=rf"^(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}\Z"),
]
LabelValue = Annotated[str, msgspec.Meta(pattern=rf"^(?:{_NAME})?\Z")]


class LabelRequirement(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One of `matchExpressions`."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[LabelValue, ...] = ()

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

    match_labels: dict[LabelKey, LabelValue] = {}
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


class SelectorIndex(Generic[T]):
    """
    Items with selectors, by namespace: which of them select some labels?

    An item is looked up by one of its labels, so only items that share a label with
    what is asked about are tried.
    """

    def __init__(self) -> None:
        self._by_label: dict[tuple[str, str, str], list[_Entry[T]]] = {}
        self._others: dict[str, list[_Entry[T]]] = {}
        self._count = 0

    def add(self, namespace: str, selector: LabelSelector, item: T) -> None:
        """Add an item of `namespace`; items are given out in this order."""
        entry = (self._count, selector, item)
        self._count += 1
        for key, value in selector.match_labels.items():
            self._by_label.setdefault((namespace, key, value), []).append(entry)
            return
        self._others.setdefault(namespace, []).append(entry)

    def select(self, namespace: str, labels: Mapping[str, str]) -> list[T]:
        """The items of `namespace` that select an object with `labels`."""
        entries = list(self._others.get(namespace, ()))
        for key, value in labels.items():
            entries += self._by_label.get((namespace, key, value), ())
        found = [entry for entry in entries if entry[1].selects(labels)]
        return [item for _, _, item in sorted(found, key=lambda entry: entry[0])]


_Entry = tuple[int, LabelSelector, T]
