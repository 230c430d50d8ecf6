"""
What an idle agent holds: counted before the load, and again when all is quiet.

Names are for people: "n1 worker 0, descriptors", "n2 map passage", "api sockets".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Final

from agent.redirect.pins import PinnedMap
from tests.lab import system
from tests.lab.node import Agent
from tests.lab.pod import Pod
from tests.soak.world import World

Counts = dict[str, int]

# An array always has its whole size; socket storage is freed with its socket and
# cannot be walked.
UNCOUNTED: Final = frozenset({"about", "peers"})


def processes(agent: Agent) -> dict[str, int]:
    """The agent's processes: {"n1 control": pid, "n1 worker 0": pid}."""
    node = agent.node.name
    status = agent.ask("status")
    named = {f"{node} control": status["pid"]}
    for worker in status["workers"]:
        if worker["pid"]:
            named[f"{node} worker {worker['index']}"] = worker["pid"]
    return named


def taken(world: World) -> Counts:
    """Everything, now."""
    counts: Counts = {}
    for agent in world.agents.values():
        for name, pid in processes(agent).items():
            counts[f"{name}, descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
            counts[f"{name}, threads"] = len(os.listdir(f"/proc/{pid}/task"))
        open_ones = agent.ask("connections")["open"]
        counts[f"{agent.node.name} connections in the status"] = len(open_ones)
        counts.update(_maps(agent))
    for pod in world.pods.values():
        counts[f"{pod.name} sockets"] = _sockets(pod)
    return counts


def least(one: Mapping[str, int], other: Mapping[str, int]) -> Counts:
    """
    The smaller of each: a renewal under way has a socket and a thread, and is no leak.

    What only one of them has is kept: a map that was not there before, for instance.
    """
    every = {**one, **other}
    return {
        name: min(one.get(name, n), other.get(name, n)) for name, n in every.items()
    }


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What there is more of than before, and how much more."""
    every = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: more for name, more in every.items() if more > 0}


def memory(pids: Mapping[str, int]) -> Counts:
    """The PSS of each process, in bytes; who has gone is left out."""
    found = {name: system.proportional_memory([pid]) for name, pid in pids.items()}
    return {name: size for name, size in found.items() if size}


def _maps(agent: Agent) -> Iterator[tuple[str, int]]:
    """The entries of every pinned map, whatever maps there are."""
    for path in sorted((agent.node.pins / "maps").iterdir()):
        if path.name in UNCOUNTED:
            continue
        with contextlib.closing(PinnedMap.open(path)) as found:
            yield f"{agent.node.name} map {path.name}", sum(1 for _ in found)


def _sockets(pod: Pod) -> int:
    """TCP sockets of a pod's namespace, the agent's too; TIME-WAIT is the kernel's."""
    # `exclude time-wait` leaves listeners in; UDP and Unix sockets are nobody's here.
    argv = ["ss", "-Htan", "exclude", "time-wait"]
    said = system.run("nsenter", f"--net={pod.netns}", *argv)
    return len(said.splitlines())
