"""
What a read of the objects says of the pods that are captured (pure).

Only a source that was read completely says that a pod has left the mesh. Until then a
captured pod stays what it was, and keeps what it holds: another pod that has its
namespace or its address now waits. The one exception is its own name: an object of
another uid and the same name replaces it, for a name belongs to one object at a time.

Of a complete read, an object that lacks its network namespace does not say that the pod
has none: the capture goes on in the namespace where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.workload.model import Objects, Workload


def with_retained(
    objects: Objects, captured: Mapping[str, Workload], *, complete: bool
) -> Objects:
    """
    `objects`, with what they lack of the `captured` pods: these are by uid, each as it
    was when it was captured.
    """
    known = _with_namespaces(objects.workloads, captured)
    if not complete:
        known = (*known, *_absent(known, captured))
    if known == objects.workloads:
        return objects
    return replace(objects, workloads=known)


def staying(
    before: Iterable[Workload], captured: Mapping[str, Workload], *, complete: bool
) -> set[str]:
    """
    Uids and keys of pods that are in the mesh whatever a read says of their labels.

    Of a read in part those are all that were in it `before`, on any node: to a peer
    that seems to have left, a connection would go in plaintext.
    """
    if complete:
        return set()
    meshed = [pod for pod in before if pod.meshed] + list(captured.values())
    return {name for pod in meshed for name in (pod.uid, pod.key)}


def _with_namespaces(
    pods: tuple[Workload, ...], captured: Mapping[str, Workload]
) -> tuple[Workload, ...]:
    """Captured pods whose network namespace is not known any more have the last one."""
    claimed = {pod.netns for pod in pods if not pod.finished}
    lost = {
        pod.uid: captured[pod.uid].netns
        for pod in pods
        if pod.netns is None and pod.uid in captured and not pod.finished
    }
    if not lost:
        return pods
    return tuple(
        replace(pod, netns=netns)
        if pod.uid in lost and (netns := lost[pod.uid]) not in claimed
        else pod
        for pod in pods
    )


def _absent(
    pods: tuple[Workload, ...], captured: Mapping[str, Workload]
) -> tuple[Workload, ...]:
    uids = {pod.uid for pod in pods}
    keys = {pod.key for pod in pods}
    return tuple(
        pod for uid, pod in captured.items() if uid not in uids and pod.key not in keys
    )
