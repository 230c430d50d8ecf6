"""A hundred pods at once on one node: a ReplicaSet, and that it is gone again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.cluster import images, machine
from tests.cluster.machine import Document
from tests.cluster.world import SHOP
from tests.lab import system

SIZE: Final = 100
NODE: Final = 2  # a kubelet takes 110 pods


def start(command: Sequence[str]) -> None:
    """Ask for them."""
    machine.apply(_replicas(command))


def wait_in_mesh() -> None:
    """Until each is marked. Raises: LabError."""
    system.wait_until(
        lambda: len([p for p in pods() if machine.is_marked(p)]) == SIZE,
        "all pods of the crowd in the mesh",
        *(300, 1.0),
    )


def end() -> None:
    """Delete them, and wait until they are gone. Raises: LabError."""
    gone = ("delete", "replicaset", "crowd", "--wait=false", "--ignore-not-found")
    machine.kubectl("-n", SHOP, *gone)
    system.wait_until(lambda: not pods(), "the crowd to go", 240, 2.0)


def pods() -> list[Document]:
    """Those that there are."""
    found: list[Document] = machine.get("-n", SHOP, "pods", "-l", "app=crowd")["items"]
    return found


def _replicas(command: Sequence[str]) -> Document:
    container = {
        "name": "main",
        "image": images.APPLICATIONS,
        "command": list(command),
    }
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": machine.node_name(NODE)},
        "serviceAccountName": "caller",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    labels = {"app": "crowd"}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "crowd", "namespace": SHOP},
        "spec": {
            "replicas": SIZE,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
