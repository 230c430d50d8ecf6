"""Step 10: how long it takes from a pod's network namespace to its capture."""

from __future__ import annotations

import json
import os
import statistics
import time
from datetime import datetime
from pathlib import Path

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
        captured = _captured(since)
        notes.saw(f"all in the mesh after {took:.0f} s", len(captured) == CROWD)
        ages = [age for _, age in captured.values()]
        notes.saw(f"from network namespace to capture: {_spread(ages)}")
        sandboxes = {pod["metadata"]["name"]: _sandbox_began(pod) for pod in _pods()}
        waits = [at - sandboxes[name] for name, (at, _) in captured.items()]
        notes.saw(f"from the sandbox's first process to capture: {_spread(waits)}")
        starts = {pod["metadata"]["name"]: _containers_began(pod) for pod in _pods()}
        late = [name for name, (at, _) in captured.items() if at > starts[name]]
        notes.saw(f"{len(late)} of them had a container that ran before")
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


def _captured(since: float) -> dict[str, tuple[float, float]]:
    """
    When each pod of the crowd was captured, and its namespace's age then, in seconds.

    From the agent's log.
    """
    name = machine.agent_pod(NODE)["metadata"]["name"]
    seconds = int(time.time() - since) + 2
    log = machine.kubectl("-n", machine.MESH, "logs", name, f"--since={seconds}s")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {
        line["object"].removeprefix(f"{SHOP}/"): (
            datetime.fromisoformat(line["timestamp"]).timestamp(),
            float(line["age_seconds"]),
        )
        for line in lines
        if line["event"] == "captured" and line["object"].startswith(f"{SHOP}/crowd-")
    }


def _sandbox_began(pod: Document) -> float:
    """When the process that holds a pod's namespace started, by the wall clock."""
    return min(map(_began, machine.processes_of(pod, NODE, sandbox=True)))


def _containers_began(pod: Document) -> float:
    """When the first process of its containers did."""
    return min(map(_began, machine.processes_of(pod, NODE)))


def _began(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text()
    ticks = int(stat.rpartition(")")[2].split()[19])
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - now + ticks / os.sysconf("SC_CLK_TCK")


def _spread(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    named = (("p50", cuts[49]), ("p99", cuts[98]), ("most", max(seconds)))
    return ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in named)
