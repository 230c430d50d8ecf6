"""
What is watched: which kinds, where the server has them, which of their objects. Pure.

A pod is in the mesh by its own label or its namespace's, and a selector sees only a
pod's own. So the agent of its node marks a captured pod with a label too (see marks):
that label selects exactly the pods that others must reach by tunnel, on any node.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from agent.errors import InputError
from agent.policy.kinds import POLICY_KINDS
from agent.workload.model import TUNNEL_HBONE, TUNNEL_MARK

Selectors = tuple[tuple[str, str], ...]

T = TypeVar("T")


class InvalidDiscovery(InputError):
    """An answer about what is served that cannot be read."""


@dataclass(frozen=True, slots=True)
class Served:
    """A kind in one version, as a server may have it; the group "" is the core's."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def home(self) -> str:
        """The path of its group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else "/api/v1"

    @property
    def path(self) -> str:
        """The path of all its objects, in every namespace."""
        return f"{self.home}/{self.plural}"

    @property
    def title(self) -> str:
        """As RBAC and `kubectl get` name it: servers.policy.linkerd.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class Resource:
    """
    One list and watch: the first of `candidates` that the server has.

    An `optional` one may be missing: a custom resource definition that is not there.
    """

    name: str
    candidates: tuple[Served, ...]
    selectors: Selectors = ()
    optional: bool = False


OWN_PODS: Final = "pods of this node"
MESHED_PODS: Final = "meshed pods of other nodes"
ALL_PODS: Final = "pods"
NAMESPACES: Final = "namespaces"

_PODS: Final = (Served("", "v1", "pods", "Pod"),)
# What older servers have: v1 came with Kubernetes 1.21, v1beta1 went with 1.25.
_ENDPOINTS: Final = (
    Served("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Served("discovery.k8s.io", "v1beta1", "endpointslices", "EndpointSlice"),
    Served("", "v1", "endpoints", "Endpoints"),
)


def of_node(node: str) -> tuple[Resource, ...]:
    """All that the agent of one node must know."""
    meshed = ("labelSelector", f"{TUNNEL_MARK}={TUNNEL_HBONE}")
    elsewhere = ("fieldSelector", f"spec.nodeName!={node}")
    return (
        Resource(OWN_PODS, _PODS, (("fieldSelector", f"spec.nodeName={node}"),)),
        Resource(MESHED_PODS, _PODS, (meshed, elsewhere)),
        Resource(
            "this node",
            (Served("", "v1", "nodes", "Node"),),
            (("fieldSelector", f"metadata.name={node}"),),
        ),
        Resource(NAMESPACES, (Served("", "v1", "namespaces", "Namespace"),)),
        Resource("services", (Served("", "v1", "services", "Service"),)),
        Resource("endpoints of services", _ENDPOINTS),
        *_policies(),
    )


def of_authority() -> tuple[Resource, ...]:
    """What the identity service must know: which pod runs where, as whom."""
    return (Resource(ALL_PODS, _PODS),)


def _policies() -> tuple[Resource, ...]:
    found: list[Resource] = []
    for kind in POLICY_KINDS:
        served = tuple(
            Served(kind.group, version, kind.plural, kind.name)
            for version in kind.versions
        )
        found.append(Resource(served[0].title, served, optional=True))
    return tuple(found)


class _Version(msgspec.Struct, frozen=True):
    version: str


class _Group(msgspec.Struct, frozen=True):
    name: str
    versions: tuple[_Version, ...]


class _Groups(msgspec.Struct, frozen=True):
    groups: tuple[_Group, ...]


class _ApiResource(msgspec.Struct, frozen=True):
    name: str


class _ApiResources(msgspec.Struct, frozen=True):
    resources: tuple[_ApiResource, ...]


def parse_groups(body: bytes) -> Mapping[str, frozenset[str]]:
    """The versions of each group, from an APIGroupList. Raises: InvalidDiscovery."""
    groups = _decode(body, _Groups, "/apis").groups
    return {item.name: frozenset(v.version for v in item.versions) for item in groups}


def parse_resources(body: bytes, path: str) -> frozenset[str]:
    """The plurals of an APIResourceList. Raises: InvalidDiscovery."""
    return frozenset(item.name for item in _decode(body, _ApiResources, path).resources)


def possible(
    candidates: Collection[Served], groups: Mapping[str, frozenset[str]]
) -> list[Served]:
    """The candidates whose group and version are served, best first."""
    return [
        served
        for served in candidates
        if not served.group or served.version in groups.get(served.group, ())
    ]


def _decode(body: bytes, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidDiscovery(f"{path}: {error}") from error
