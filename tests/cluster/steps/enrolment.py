"""Step 10: how long it takes from a pod's network namespace to its capture."""

from __future__ import annotations

import json
import os
import statistics
import time
from datetime import datetime
from pathlib import Path

from tests.cluster import crowd, machine
from tests.cluster.machine import Document
from tests.cluster.world import SHOP, SLEEP, World
from tests.demo.report import Notes


def measured(_world: World, notes: Notes) -> None:
    """A ReplicaSet of a hundred; the agent's log has the age of each namespace."""
    notes.did(f"{crowd.SIZE} pods on node {crowd.NODE} at once")
    since = time.time()
    began = time.monotonic()
    crowd.start(SLEEP)
    try:
        crowd.wait_in_mesh()
        took = time.monotonic() - began
        captured = _captured(since)
        notes.saw(f"all in the mesh after {took:.0f} s", len(captured) == crowd.SIZE)
        ages = [age for _, age in captured.values()]
        notes.saw(f"from network namespace to capture: {_spread(ages)}")
        pods = {pod["metadata"]["name"]: pod for pod in crowd.pods()}
        waits = [at - _sandbox_began(pods[name]) for name, (at, _) in captured.items()]
        notes.saw(f"from the sandbox's first process to capture: {_spread(waits)}")
        late = [n for n, (at, _) in captured.items() if at > _containers_began(pods[n])]
        notes.saw(f"{len(late)} of them had a container that ran before")
    finally:
        crowd.end()


def _captured(since: float) -> dict[str, tuple[float, float]]:
    """
    When each pod of the crowd was captured, and its namespace's age then, in seconds.

    From the agent's log.
    """
    name = machine.agent_pod(crowd.NODE)["metadata"]["name"]
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
    return min(map(_began, machine.processes_of(pod, crowd.NODE, sandbox=True)))


def _containers_began(pod: Document) -> float:
    """When the first process of its containers did."""
    return min(map(_began, machine.processes_of(pod, crowd.NODE)))


def _began(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text()
    ticks = int(stat.rpartition(")")[2].split()[19])
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - now + ticks / os.sysconf("SC_CLK_TCK")


def _spread(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    named = (("p50", cuts[49]), ("p99", cuts[98]), ("most", max(seconds)))
    return ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in named)
