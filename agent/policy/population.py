"""
Which pods there are, for one question: does a selector match any? Pure.

Pods are bits of a number, and so is each label's set of them; a selector is a few
operations on these, whatever it asks and however many pods there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.policy.selector import LabelSelector


class Population:
    """The labels of all pods, by namespace."""

    def __init__(self, pods: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        self._namespaces: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        self._labels: dict[tuple[str, str], int] = {}
        # Replicas of one thing are one bit: they differ in labels that count for none.
        alike = {(namespace, frozenset(labels.items())) for namespace, labels in pods}
        for number, (namespace, items) in enumerate(alike):
            bit = 1 << number
            self._namespaces[namespace] = self._namespaces.get(namespace, 0) | bit
            for item in items:
                self._labels[item] = self._labels.get(item, 0) | bit
                self._keys[item[0]] = self._keys.get(item[0], 0) | bit

    def knows(self, namespace: str) -> bool:
        """Whether there is any pod in a namespace."""
        return namespace in self._namespaces

    def has(self, namespace: str | None, selector: LabelSelector | None = None) -> bool:
        """Whether a pod of a namespace (None: of any) is selected."""
        return bool(self._selected(namespace, selector))

    def _selected(self, namespace: str | None, selector: LabelSelector | None) -> int:
        if namespace is None:
            found = 0
            for pods in self._namespaces.values():
                found |= pods
        else:
            found = self._namespaces.get(namespace, 0)
        if selector is None:
            return found
        for item in selector.match_labels.items():
            found &= self._labels.get(item, 0)
        for wanted in selector.match_expressions:
            if wanted.operator in ("Exists", "DoesNotExist"):
                having = self._keys.get(wanted.key, 0)
            else:
                having = 0
                for value in wanted.values:
                    having |= self._labels.get((wanted.key, value), 0)
            positive = wanted.operator in ("Exists", "In")
            found &= having if positive else ~having
        return found
