"""Step 10: how long it takes from a pod's network namespace to its capture."""

from __future__ import annotations

import json
import statistics
import time

from tests.cluster import images, machine
from tests.cluster.machine import Document
from tests.cluster.world import SHOP, SLEEP, World
from tests.demo.report import Notes
from tests.lab import system

CROWD = 100
NODE = 2  # a kubelet takes 110 pods


def crowd(_world: World, notes: Notes) -> None:
    """A ReplicaSet of a hundred; the agent's log has the age of each namespace."""
    notes.did(f"{CROWD} pods on node {NODE} at once")
    since = time.time()
    began = time.monotonic()
    machine.apply(_replicas())
    try:
        system.wait_until(lambda: len(_marked()) == CROWD, "all in the mesh", 300, 1.0)
        took = time.monotonic() - began
        ages = sorted(_ages(since))
        notes.saw(f"all in the mesh after {took:.0f} s", len(ages) >= CROWD)
        cuts = statistics.quantiles(ages, n=100)
        notes.saw(
            f"from network namespace to capture: p50 {cuts[49] * 1000:.0f} ms, "
            f"p99 {cuts[98] * 1000:.0f} ms, most {ages[-1] * 1000:.0f} ms"
        )
    finally:
        machine.kubectl("-n", SHOP, "delete", "replicaset", "crowd", "--wait=false")
        system.wait_until(lambda: not _pods(), "the crowd to go", 240, 2.0)


def _replicas() -> Document:
    container = {
        "name": "main",
        "image": images.APPLICATIONS,
        "command": list(SLEEP),
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
            "replicas": CROWD,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _pods() -> list[Document]:
    found: list[Document] = machine.get("-n", SHOP, "pods", "-l", "app=crowd")["items"]
    return found


def _marked() -> list[Document]:
    return [pod for pod in _pods() if machine.is_marked(pod)]


def _ages(since: float) -> list[float]:
    """Of each pod of the crowd, from the agent's log."""
    name = machine.agent_pod(NODE)["metadata"]["name"]
    seconds = int(time.time() - since) + 2
    log = machine.kubectl("-n", machine.MESH, "logs", name, f"--since={seconds}s")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [
        float(line["age_seconds"])
        for line in lines
        if line["event"] == "captured" and line["object"].startswith(f"{SHOP}/crowd-")
    ]
