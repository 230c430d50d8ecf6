"""
What a cluster's pods cost an agent, and the identity service: memory, and CPU seconds
for one pod that changed. Objects come as the API server's JSON, 5 kB a pod.

Needs no root and no API server: `python -m tests.bench.apiserver [PODS...]`.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.identity.spiffe import TrustDomain
from agent.kube.manifests import collect
from agent.kube.resources import Served
from agent.kube.store import Store, merged
from agent.kube.trim import authorized_pod, far_pod
from agent.kube.watch import Item, Key, Listed, Stored
from agent.workload.registry import Registry
from agent.workload.running import Running

PODS: Final = (10_000, 100_000)
PAGE: Final = 500
NODES: Final = 1000
PER_WORKLOAD: Final = 50
TRUST_DOMAIN: Final = TrustDomain("cluster.local")
SERVED: Final = Served("", "v1", "pods", "Pod")


def item(number: int, version: int = 1, ip: int | None = None) -> Item:
    """A marked pod of a Deployment, as its node's kubelet leaves it."""
    workload, ip = number // PER_WORKLOAD, number if ip is None else ip
    namespace, app = f"team-{workload % 100}", f"app-{workload}"
    name, uid = f"{app}-7d9f8b6c5-{number:05d}", f"0a1b2c3d-0000-4000-8{number:015d}"
    mark = {"podlock.io/tunnel": "hbone"}
    labels = {"app": app, "pod-template-hash": f"7d9f{workload}", "team": namespace}
    document: dict[str, Any] = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": str(version),
            "labels": labels | mark,
            "annotations": {**mark, "example.com/notes": "x" * 4000},
        },
        "spec": {
            "nodeName": f"node-{1 + number % NODES}",
            "serviceAccountName": app,
            "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": f"10.{ip >> 16}.{ip >> 8 & 255}.{ip & 255}"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    return Item(Key(namespace, name), uid, version, msgspec.json.encode(document))


def listed(store: Store, pods: int) -> None:
    """All of them, page by page."""
    for first in range(0, pods, PAGE):
        page = tuple(item(number) for number in range(first, min(first + PAGE, pods)))
        is_last = first + PAGE >= pods
        store.apply(Listed(page, is_first=not first, is_last=is_last), SERVED)


def resident_mb() -> float:
    """Of this process, in millions of bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def cpu(work: Callable[[], object]) -> float:
    """Seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(role: str, pods: int) -> tuple[float, float]:
    """Megabytes beyond the interpreter and its modules, and seconds for one change."""
    before = resident_mb()
    is_agent = role == "agent"
    store = Store(far_pod if is_agent else authorized_pod)
    registry = Registry("node-0", TRUST_DOMAIN, by_mark=True)
    running = Running(TRUST_DOMAIN)

    def look() -> None:
        objects = collect(list(merged([store]).values()))
        if is_agent:
            registry.apply(objects)
        else:
            running.apply(objects.workloads)

    listed(store, pods)
    look()
    gc.collect()
    memory = resident_mb() - before
    store.apply(Stored(item(pods // 2, 2, ip=pods + 1)), SERVED)
    return memory, cpu(look)


def measured(role: str, pods: int) -> str:
    """In a process of its own, for its memory."""
    command = [sys.executable, "-m", "tests.bench.apiserver", role, str(pods)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    memory, seconds = done.stdout.split()
    return f"{role:8} {pods:8,} pods  {float(memory):8.1f} MB  {float(seconds):6.3f} s"


def main(words: list[str]) -> None:
    """Measure, each in a process of its own; or, with a role, one of them."""
    if words and words[0] in ("agent", "identity"):
        memory, seconds = measure(words[0], int(words[1]))
        print(memory, seconds)  # noqa: T201 - to the process that asked
        return
    for role in ("agent", "identity"):
        for pods in map(int, words or PODS):
            print(measured(role, pods), flush=True)  # noqa: T201 - the figures


if __name__ == "__main__":
    main(sys.argv[1:])
