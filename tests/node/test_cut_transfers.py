"""A process that is killed cuts its connections: applications see resets, no ends."""

from __future__ import annotations

import os
import signal

import pytest

from tests.demo import stage
from tests.demo.calls import Program
from tests.demo.stage import Stage
from tests.lab import apps, system
from tests.lab.node import Agent

pytestmark = pytest.mark.slow


def served_again(agent: Agent) -> None:
    system.wait_until(lambda: agent.ask("status")["ready"], "ready", 30)


@pytest.mark.parametrize(
    ("node", "client"),
    [("n1", "web"), ("n2", "web"), ("n2", "cache"), ("n2", "outsider")],
)
def test_every_worker_of_a_node_is_killed(world: Stage, node: str, client: str) -> None:
    """By tunnel across nodes and on one, and in plaintext from outside."""
    agent = world.agents[node]
    to = world.pods["open"].address.v4
    program = Program(world.pods[client], "hold", to, apps.HTTP_PORT)
    try:
        program.wait("answer", seconds=30)
        for worker in agent.ask("status")["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        assert program.wait("closed", seconds=30)["why"] == "ConnectionResetError"
    finally:
        program.kill()
        served_again(agent)
    stage.wait_captured(agent)
