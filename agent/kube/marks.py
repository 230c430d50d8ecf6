"""
What is written to the API server: the mark on captured pods, and Events. Pure.

A mark is an annotation, which says that the pod takes HBONE, and a label of the same
name and value, by which other nodes select such pods. Level, not edge: what is to be
written follows from who is captured and what the pods have, so that an agent that was
away, or a person who took a mark off, leaves nothing wrong behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from agent.workload.model import TUNNEL_HBONE, TUNNEL_MARK, Workload

MERGE_PATCH: Final = "application/merge-patch+json"  # RFC 7396
# As Kubernetes' own limits have it: note 1024 bytes, reason 128.
MAX_NOTE: Final = 1024
COMPONENT: Final = "podlock"
CONTROLLER: Final = "podlock.io/agent"

EventType = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One pod whose mark is to be put on, or taken off."""

    namespace: str
    name: str
    uid: str
    on: bool

    @property
    def path(self) -> str:
        """
        The pod's status: writing there is enough for metadata, and a lesser right.

        Who may patch `pods` may change their images.
        """
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}/status"

    @property
    def body(self) -> bytes:
        """A merge patch; the uid makes it fail for a pod that took the name."""
        value = TUNNEL_HBONE if self.on else None
        mark = {TUNNEL_MARK: value}
        metadata = {"uid": self.uid, "annotations": mark, "labels": mark}
        return msgspec.json.encode({"metadata": metadata})


def differences(
    pods: Iterable[Workload], captured: Set[str], wanted: Set[str]
) -> list[Mark]:
    """
    The marks that are not as they should be, of this node's `pods`.

    `captured` and `wanted` are uids: who is in the mesh, and who is to be. A pod that
    is wanted and not captured keeps what it has: without the mark its peers would talk
    to it in plaintext, and an earlier agent's redirect may still hold it.
    """
    found: list[Mark] = []
    for pod in pods:
        labelled = pod.labels.get(TUNNEL_MARK) == TUNNEL_HBONE
        if pod.uid in captured and not (pod.marked and labelled):
            found.append(Mark(pod.namespace, pod.name, pod.uid, on=True))
        elif pod.uid not in wanted | captured and (
            pod.marked or TUNNEL_MARK in pod.labels
        ):
            found.append(Mark(pod.namespace, pod.name, pod.uid, on=False))
    return found


def event_document(
    pod: Workload, kind: EventType, reason: str, note: str, now: datetime, node: str
) -> Mapping[str, object]:
    """A core/v1 Event about a pod, as `kubectl describe pod` shows it."""
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{pod.name}.", "namespace": pod.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
        },
        "type": kind,
        "reason": reason,
        "message": _cut(note),
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": CONTROLLER,
        "reportingInstance": node,
    }


def _cut(note: str) -> str:
    encoded = note.encode()
    if len(encoded) <= MAX_NOTE:
        return note
    return encoded[: MAX_NOTE - 3].decode("utf-8", "ignore") + "..."
