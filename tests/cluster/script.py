"""The order of the steps, and how one is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console

from tests.cluster.steps import (
    arrival,
    enrolment,
    gate,
    leaving,
    outage,
    probing,
    talk,
)
from tests.cluster.world import World
from tests.demo.report import Notes, Report, Result

Step = Callable[[World, Notes], None]

STEPS: Final[tuple[tuple[str, str, Step], ...]] = (
    ("install", "kubectl apply -k brings an agent to each node", arrival.installed),
    ("mesh", "unmodified pods join by a label on their namespace", arrival.meshed),
    ("talk", "mutual TLS across the nodes, by Service and pod", talk.across_nodes),
    ("policy", "a policy refuses, and both nodes say why", talk.refused),
    ("probes", "kubelet's probes pass where nobody else does", probing.under_deny),
    ("rollout", "the DaemonSet restarts under load", outage.rolling_restart),
    ("takeover", "an agent takes over from another under load", outage.takeover),
    ("kill", "an agent is killed under load", outage.killed),
    ("kubelet", "a kubelet restarts under load", outage.kubelet_restarted),
    ("api", "the API server is away for a minute", outage.api_server_stopped),
    ("crowd", "a hundred pods start at once on one node", enrolment.measured),
    ("gate", "nothing leaks from pods that are too early", gate.shut),
    ("leave", "pods leave the mesh without a restart", leaving.unlabelled),
    ("delete", "kubectl delete -k leaves the nodes clean", leaving.removed),
)


def perform(report: Report, console: Console, only: Sequence[str]) -> None:
    """Run the steps; one that raises does not hold, and the next is still run."""
    world = World()
    chosen = [step for step in STEPS if not only or step[0] in only]
    for number, (_, name, step) in enumerate(chosen, start=1):
        notes, began = Notes(), time.monotonic()
        with console.status(f"{number} of {len(chosen)}: {name}"):
            try:
                step(world, notes)
            except Exception as error:  # noqa: BLE001 (reported as a fact)
                last = (str(error).splitlines() or [""])[-1]
                notes.saw(f"{type(error).__name__}: {last}", held=False)
        report.add(Result(name, notes, time.monotonic() - began))
