"""The source of certificates is away for longer than they live, and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.demo import stage
from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.node import Agent
from tests.lab.spiffe_agent import SpiffeAgent
from tests.lab.topology import random_run
from tests.node.test_spiffe_agent import NODE, push, restart, spiffe

__all__ = ["spiffe"]  # a fixture

pytestmark = pytest.mark.slow

MINUTE_IN_HOURS = 1 / 60
# What guarantee 6 allows from the return of a dependency.
REACHED_SECONDS = 10.0


@pytest.fixture(scope="module")
def short() -> Iterator[Stage]:
    """Certificates of one minute."""
    with stage.built(random_run(), lifetime_hours=MINUTE_IN_HOURS) as built:
        yield built


def states(world: Stage) -> list[str]:
    """Of the certificates of all pods on both nodes."""
    return [
        str(each["state"])
        for agent in world.agents.values()
        for each in agent.ask("certificates")["certificates"]
    ]


def call(world: Stage) -> str:
    to = world.pods["api"].address.v4
    argv = ("curl", "-sS", "--max-time", "5", f"http://{to}/")
    return world.pods["web"].run(*argv).stdout


def test_an_identity_service_that_hangs_until_all_has_expired(short: Stage) -> None:
    """Each pod has a certificate soon after its return, and is served again."""
    world = short
    count = len(states(world))
    assert count >= len(stage.MESHED["n1"]) + len(stage.MESHED["n2"])
    processes = system.processes_in(world.lab.host_cgroup("identity"))
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        system.wait_until(
            lambda: set(states(world)) == {"expired"}, "all expired", 90, 0.5
        )
        assert call(world) == ""
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    system.wait_until(
        lambda: (
            len([each for each in states(world) if each.startswith("valid")]) == count
        ),
        "a certificate for each pod",
        REACHED_SECONDS,
    )
    assert call(world) == world.page("api")


def test_a_spiffe_agent_that_is_away(world: Stage, spiffe: SpiffeAgent) -> None:
    """What it has after its return is used within seconds."""
    agent = world.agents[NODE]
    nothing = dict.fromkeys(("service", "anchors", "token"))
    source = {"workload_api": spiffe.address}
    try:
        restart(agent, {"identity": {**nothing, **source}})
        before = serials(agent)
        spiffe.stop()
        system.wait_until(lambda: is_away(agent), "known to be away", 20)
        with SpiffeAgent(spiffe.path) as back:
            push(world, back, spiffe.path.parent / "second")
            system.wait_until(
                lambda: not before & serials(agent), "new SVIDs", REACHED_SECONDS
            )
            assert call(world) == world.page("api")
    finally:
        restart(agent, {})


def serials(agent: Agent) -> set[str]:
    """Of the certificates that are in use."""
    held = agent.ask("certificates")["certificates"]
    return {str(each["serial"]) for each in held}


def is_away(agent: Agent) -> bool:
    found = agent.ask("status")["dependencies"]
    (one,) = [each for each in found if each["kind"] == "SPIFFE agent"]
    return bool(one["state"] == "unreachable")
