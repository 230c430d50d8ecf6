"""What one agent weighs: after the load, and fresh on a node full of silent pods."""

from __future__ import annotations

import time
from typing import Final

from tests.bench import world
from tests.bench.contestants import Podlock, wait_captured
from tests.bench.statistics import AGENT_MEMORY, Metric, Run
from tests.bench.world import NAMESPACE, Scope
from tests.lab import manifests, system
from tests.lab.node import Agent

NODE: Final = "n1"
SCOPE: Final[Scope] = "same-node"
PODS: Final = 100
USED: Final = "agent, after the load"
IDLE: Final = f"agent, {PODS} pods"
METRICS: Final[dict[str, Metric]] = {USED: AGENT_MEMORY, IDLE: AGENT_MEMORY}

# For what enrolment leaves behind: certificates, garbage.
SETTLE_SECONDS: Final = 1.0
CAPTURE_SECONDS: Final = 60.0


def measure(podlock: Podlock) -> list[Run]:
    """Weigh the agent of node 1, then start it again with 100 pods and weigh it."""
    agent = podlock.agents[NODE]
    runs: list[Run] = []
    try:
        runs.append(_weighed(agent, USED))
        agent.stop()
        agent.start()
        _fill(podlock)
        runs.append(_weighed(agent, IDLE))
    except (system.LabError, OSError) as error:
        case = IDLE if runs else USED
        runs.append(Run(0, SCOPE, case, podlock.name, {}, str(error)))
    return runs


def _weighed(agent: Agent, case: str) -> Run:
    time.sleep(SETTLE_SECONDS)
    figures = {
        AGENT_MEMORY.name: float(world.memory((agent.cgroup,))),
        "processes": float(len(agent.processes())),
    }
    return Run(0, SCOPE, case, Podlock.name, figures)


def _fill(podlock: Podlock) -> None:
    agent = podlock.agents[NODE]
    present = {pod.name for pod in podlock.meshed if pod.node == NODE}
    pods = [
        agent.node.add_pod(f"crowd-{number}", NAMESPACE)
        for number in range(PODS - len(present))
    ]
    podlock.directory.write("crowd", *(manifests.pod(pod) for pod in pods))
    wait_captured(agent, present | {pod.name for pod in pods}, CAPTURE_SECONDS)
