"""A node full of pods: what one agent weighs when nobody says anything."""

from __future__ import annotations

import time
from typing import Final

from tests.bench import world
from tests.bench.contestants import Podlock, wait_captured
from tests.bench.statistics import AGENT_MEMORY, Run
from tests.bench.world import NAMESPACE
from tests.lab import manifests, system

PODS: Final = 100
NODE: Final = "n1"
CASE: Final = f"agent, {PODS} pods"
# A second for what enrolment leaves behind: certificates, garbage.
SETTLE_SECONDS: Final = 1.0


def measure(podlock: Podlock) -> Run:
    """Fill node 1 up to 100 meshed pods and weigh its agent."""
    agent = podlock.agents[NODE]
    name, contestant = CASE, podlock.name
    try:
        _fill(podlock)
        time.sleep(SETTLE_SECONDS)
        used = float(world.memory((agent.cgroup,)))
        processes = float(len(agent.processes()))
    except (system.LabError, OSError) as error:
        return Run(0, "same-node", name, contestant, {}, str(error))
    figures = {AGENT_MEMORY.name: used, "processes": processes}
    return Run(0, "same-node", name, contestant, figures)


def _fill(podlock: Podlock) -> None:
    agent = podlock.agents[NODE]
    present = {w["name"] for w in agent.ask("workloads")["workloads"]}
    pods = [
        agent.node.add_pod(f"crowd-{number}", NAMESPACE)
        for number in range(PODS - len(present))
    ]
    podlock.directory.write("crowd", *(manifests.pod(pod) for pod in pods))
    wait_captured(agent, present | {pod.name for pod in pods}, seconds=60.0)
