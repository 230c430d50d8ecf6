"""
Pods that a source which was read in part does not name (pure).

Only a source that was read completely says that a pod has left the mesh. Until then a
captured pod stays what it was, unless another pod has its name, namespace or address.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from agent.workload.model import Objects, Workload


def with_retained(
    objects: Objects, before: Collection[Workload], captured: Collection[str]
) -> Objects:
    """`objects`, and of the pods `before` those with a `captured` uid that it lacks."""
    uids = {pod.uid for pod in objects.workloads}
    keys = {pod.key for pod in objects.workloads}
    places = {pod.netns for pod in objects.workloads}
    addresses = {each for pod in objects.workloads for each in pod.addresses}
    kept = tuple(
        pod
        for pod in before
        if pod.uid in captured
        and pod.uid not in uids
        and pod.key not in keys
        and pod.netns not in places
        and addresses.isdisjoint(pod.addresses)
    )
    if not kept:
        return objects
    return replace(objects, workloads=(*objects.workloads, *kept))
