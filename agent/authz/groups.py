"""
Which labels mean some pods and no others: the selectors that `suggest` writes. Pure.

Pods of one namespace with the same labels are a group; labels that differ between
replicas of one thing do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.workload.model import Workload
from agent.workload.registry import MESH_LABEL

# Kubernetes' controllers write these, and differently for each replica or revision.
VOLATILE: Final = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "controller-uid",
        MESH_LABEL,
    }
)
_NAMES: Final = ("app.kubernetes.io/name", "app", "k8s-app")

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Pods of one namespace that no policy needs to tell apart."""

    namespace: str
    labels: Labels
    pods: tuple[Workload, ...]

    @property
    def name(self) -> str:
        """What a person calls it."""
        labels = dict(self.labels)
        named = next((labels[key] for key in _NAMES if key in labels), None)
        return named or self.pods[0].service_account

    def selector(self, others: Iterable[Group]) -> dict[str, Any]:
        """
        A label selector of exactly these pods.

        Those of `others` that have all of these labels and more are told apart by a
        label that they have and these have not.
        """
        selector: dict[str, Any] = {"matchLabels": dict(sorted(self.labels))}
        absent = self.absent(others)
        if absent:
            selector["matchExpressions"] = [
                {"key": key, "operator": "DoesNotExist"} for key in absent
            ]
        return selector

    def absent(self, others: Iterable[Group]) -> Sequence[str]:
        """Labels that others have besides all of these; see `selector`."""
        mine = {key for key, _ in self.labels}
        wider = [
            {key for key, _ in other.labels} - mine
            for other in others
            if other.namespace == self.namespace and other.labels > self.labels
        ]
        return sorted({min(keys) for keys in wider})


def grouped(pods: Iterable[Workload]) -> list[Group]:
    """All pods, each in one group, by namespace and labels."""
    found: dict[tuple[str, Labels], list[Workload]] = {}
    for pod in pods:
        found.setdefault((pod.namespace, _stable(pod.labels)), []).append(pod)
    return [
        Group(namespace, labels, tuple(members))
        for (namespace, labels), members in sorted(
            found.items(), key=lambda item: (item[0][0], sorted(item[0][1]))
        )
    ]


def _stable(labels: Mapping[str, str]) -> Labels:
    return frozenset(item for item in labels.items() if item[0] not in VOLATILE)
