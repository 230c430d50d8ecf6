"""Kinds of policy that a test installs and takes away."""

from __future__ import annotations

from agent.policy.kinds import POLICY_KINDS
from tests.cluster.control_plane import Document
from tests.kube.world import World

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def define(world: World, group: str, version: str, kind: str) -> str:
    """Where its objects are in the namespace of `world`, once they are served."""
    (known,) = (k for k in POLICY_KINDS if (k.group, k.name) == (group, kind))
    world.post(CRDS, definition(group, version, kind, known.plural))
    home = f"/apis/{group}/{version}/namespaces/{world.namespace}/{known.plural}"
    world.plane.wait(home)
    return home


def custom(version: str, kind: str, name: str, spec: Document) -> Document:
    """An object of such a kind; `version` with its group."""
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def undefine(world: World, name: str) -> None:
    """Take a kind away, and its objects with it."""
    world.plane.admin("DELETE", f"{CRDS}/{name}")


def definition(group: str, version: str, kind: str, plural: str) -> Document:
    """A kind of which the server checks nothing, so that any object can come of it."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [served],
        },
    }
