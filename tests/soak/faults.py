"""
Faults that a soak injects: what is done, and what an operator must be able to see.

Each is undone by what `inject` returns. While it lasts connections may be reset or
refused; no byte may be wrong, no transfer may look complete that is not, nothing may
pass in plaintext or past a deny, and `podlock check` must not say that all is well.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.lab import manifests, system
from tests.lab.node import Agent
from tests.patience import patient
from tests.soak import paths
from tests.soak.world import IDENTITY_CGROUP, World

Heal = Callable[[], None]
Inject = Callable[[World, Agent], Heal]


@dataclass(frozen=True, slots=True)
class Fault:
    """
    `inject` harms one agent or its surroundings. It lasts for between `seconds`.

    `reported_within`: so soon `podlock check` of that agent finds something wrong, or
    gets no answer; None where the agent is well again before anybody could ask.
    """

    name: str
    inject: Inject
    seconds: tuple[float, float] = (2.0, 5.0)
    reported_within: float | None = None


def _nothing() -> None:
    """It heals by itself."""


def _continue(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def _worker(agent: Agent) -> int:
    pids = [each["pid"] for each in agent.ask("status")["workers"] if each["pid"]]
    return int(random.choice(pids))


def _control(agent: Agent) -> int:
    return int(agent.ask("status")["pid"])


def kill_worker(_world: World, agent: Agent) -> Heal:
    """SIGKILL: control starts another one."""
    os.kill(_worker(agent), signal.SIGKILL)
    return _nothing


def stop_worker(_world: World, agent: Agent) -> Heal:
    """SIGSTOP, shorter than until it is taken for hung."""
    pid = _worker(agent)
    os.kill(pid, signal.SIGSTOP)
    return lambda: _continue([pid])


def stop_control(_world: World, agent: Agent) -> Heal:
    """SIGSTOP of the process that knows policy."""
    pid = _control(agent)
    os.kill(pid, signal.SIGSTOP)
    return lambda: _continue([pid])


def kill_agent(_world: World, agent: Agent) -> Heal:
    """SIGKILL of everything, as the OOM killer does; another one is started."""
    agent.kill()
    return lambda: _start(agent)


def restart_agent(_world: World, agent: Agent) -> Heal:
    """SIGTERM, and the next one."""
    agent.stop()
    return lambda: _start(agent)


def _start(agent: Agent) -> None:
    agent.start(wait=False)


def stop_identity(world: World, _agent: Agent) -> Heal:
    """The identity service hangs."""
    pids = system.processes_in(world.lab.host_cgroup(IDENTITY_CGROUP))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return lambda: _continue(pids)


def recreate_pods(world: World, agent: Agent) -> Heal:
    """Every Pod object of the node is made anew, with another uid."""
    world.generation += 1
    world.write_objects()
    del agent
    return _nothing


def break_file(world: World, _agent: Agent) -> Heal:
    """A manifest that is no YAML beside the others."""
    world.directory.write_text("broken", "a: [")
    return lambda: world.directory.remove("broken")


def empty_policy(world: World, _agent: Agent) -> Heal:
    """The policy file has no bytes: a writer on a full disk."""
    world.directory.write_text("policy", "")
    return world.permit


def move_directory(world: World, _agent: Agent) -> Heal:
    """The directory of manifests is not there."""
    place = world.directory.path
    away = place.with_name("away")
    place.rename(away)
    return lambda: _move_back(away, place)


def _move_back(away: object, place: object) -> None:
    os.replace(str(away), str(place))


def remove_pins(_world: World, agent: Agent) -> Heal:
    """`rm` in bpffs: programs stay attached, their names are gone."""
    for folder in ("links", "programs", "maps"):
        shutil.rmtree(agent.node.pins / folder, ignore_errors=True)
    return _nothing


def cut_wire(world: World, _agent: Agent) -> Heal:
    """The router between the nodes forwards nothing."""
    _forward(world, "0")
    return lambda: _forward(world, "1")


def _forward(world: World, value: str) -> None:
    keys = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
    system.set_sysctls(world.lab.wire, dict.fromkeys(keys, value))


def contradict(world: World, _agent: Agent) -> Heal:
    """Another pod claims the namespace and address of one that is there."""
    name = paths.MESHED["n1"][0]
    claim = manifests.pod(world.pods[name])
    claim["metadata"] = {**claim["metadata"], "name": "claimant", "uid": "claimant"}
    world.directory.write("claim", claim)
    return lambda: world.directory.remove("claim")


FAULTS: Final = (
    Fault("worker killed", kill_worker),
    Fault("worker stopped", stop_worker, (1.0, 4.0)),
    Fault("control stopped", stop_control, (4.0, 15.0), patient(1.0)),
    Fault("agent killed", kill_agent, (1.0, 4.0), patient(0.5)),
    Fault("agent restarted", restart_agent, (0.5, 2.0), patient(0.5)),
    Fault("identity service hangs", stop_identity, (30.0, 40.0), patient(20.0)),
    Fault("pods recreated", recreate_pods),
    Fault("a file is broken", break_file, (3.0, 8.0), patient(3.0)),
    Fault("the policy file is empty", empty_policy, (3.0, 8.0), patient(3.0)),
    Fault("the directory is gone", move_directory, (3.0, 8.0), patient(3.0)),
    Fault("pins removed", remove_pins),
    Fault("the wire is cut", cut_wire, (1.0, 4.0)),
    Fault("a pod is claimed twice", contradict, (3.0, 8.0), patient(3.0)),
)
NAMES: Final = tuple(each.name for each in FAULTS)
