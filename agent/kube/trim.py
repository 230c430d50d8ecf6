"""
What is left out of objects that come from an API server. Pure.

Nothing is kept that nobody asks for: each agent of a cluster has these in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from sys import intern
from typing import Final

import msgspec

from agent.kube.convert import NETNS_ANNOTATION
from agent.kube.objects import KubeObject
from agent.policy.objects import PolicyMetadata, PolicyObject
from agent.workload.model import NamedPort, Namespace, Workload

# Whose annotations on a pod mean anything here.
_DOMAINS: Final = ("podlock.io", "linkerd.io", "istio.io")

# Real pods have a fifth of it. Whoever may label a pod could fill every agent's memory.
MAX_FAR_BYTES: Final = 2048
# Workloads are fewer than pods; beyond this many some share less.
MAX_SHARED: Final = 16_384

NOTHING: Final[Mapping[str, str]] = {}

Trim = Callable[[KubeObject], tuple[KubeObject, str]]
"""Leaves out what nobody here asks for; and what that costs, for people, or ""."""


def whole(value: KubeObject) -> tuple[KubeObject, str]:
    """Nothing to leave out."""
    return value, ""


def own_pod(value: KubeObject) -> tuple[KubeObject, str]:
    """
    A pod of this node: without annotations that are others'.

    Nor its network namespace: whoever may annotate a pod could name another pod's.
    """
    if not isinstance(value, Workload):
        return value, ""
    return replace(value, annotations=_annotations(value), netns=None), ""


def far_pod(value: KubeObject) -> tuple[KubeObject, str]:
    """
    A pod of another node: who it is, where, and by what a policy may select it.

    The last is for those who ask about policy (`podlock authz`), and has an end.
    """
    if not isinstance(value, Workload):
        return value, ""
    annotations = _annotations(value)
    texts = (*value.labels.items(), *annotations.items())
    size = sum(len(name) + len(text) for name, text in texts)
    size += sum(len(port.name) for port in value.ports)
    if size > MAX_FAR_BYTES:
        told = f"over {MAX_FAR_BYTES} characters, not kept on other nodes; "
        return _stranger(value), f"{told}podlock authz there takes it as without labels"
    pod = _stranger(value)
    return replace(
        pod,
        labels=_shared(tuple(value.labels.items())),
        annotations=_shared(tuple(annotations.items())),
        ports=_shared_ports(value.ports),
    ), ""


def authorized_pod(value: KubeObject) -> tuple[KubeObject, str]:
    """For the identity service: who it is and where, for that is all that it asks."""
    if not isinstance(value, Workload):
        return value, ""
    return replace(_stranger(value), addresses=()), ""


def namespace(value: KubeObject) -> tuple[KubeObject, str]:
    """A namespace; each agent has all of them, so annotations of others have an end."""
    if not isinstance(value, Namespace):
        return value, ""
    size = sum(len(name) + len(text) for name, text in value.annotations.items())
    if size <= MAX_FAR_BYTES:
        return value, ""
    told = f"annotations of over {MAX_FAR_BYTES} characters: those that are not ours "
    rest = "are not kept, and podlock authz suggest leaves them out"
    return replace(value, annotations=_known(value.annotations)), told + rest


def policy(value: KubeObject) -> tuple[KubeObject, str]:
    """A policy without what may change while it says the same."""
    if not isinstance(value, PolicyObject):
        return value, ""
    meta = value.metadata
    kept = PolicyMetadata(
        name=meta.name,
        namespace=meta.namespace,
        uid=meta.uid,
        creation_timestamp=meta.creation_timestamp,
        labels=meta.labels,  # a ServerAuthorization may select Servers by them
        annotations=_known(meta.annotations),
    )
    return msgspec.structs.replace(value, metadata=kept, status=None), ""


def _stranger(pod: Workload) -> Workload:
    # A thousand pods of one node, namespace or account share one string of each.
    return replace(
        pod,
        namespace=intern(pod.namespace),
        node=intern(pod.node),
        service_account=intern(pod.service_account),
        labels=NOTHING,
        annotations=NOTHING,
        ports=(),
        netns=None,
    )


def _annotations(pod: Workload) -> dict[str, str]:
    return {
        name: text
        for name, text in _known(pod.annotations).items()
        if name != NETNS_ANNOTATION
    }


def _known(annotations: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text
        for name, text in annotations.items()
        if name.partition("/")[0].endswith(_DOMAINS)
    }


@lru_cache(MAX_SHARED)
def _shared(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(items)


@lru_cache(MAX_SHARED)
def _shared_ports(ports: tuple[NamedPort, ...]) -> tuple[NamedPort, ...]:
    return ports
