"""What the agent needs from elsewhere stops answering: reported, until it is back."""

from __future__ import annotations

import os
import signal

import pytest

from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.node import Agent, Document
from tests.patience import patient

pytestmark = pytest.mark.slow

# A stream that is silent for three heartbeats of five seconds is dead.
NOTICED_SECONDS = patient(25.0)


def service(agent: Agent) -> Document:
    """The identity service, as the agent sees it."""
    found: list[Document] = agent.ask("status")["dependencies"]
    (one,) = [each for each in found if each["kind"] == "identity service"]
    return one


def is_away(agent: Agent) -> bool:
    return bool(service(agent)["state"] == "unreachable")


def is_there(agent: Agent) -> bool:
    return not is_away(agent)


def test_an_identity_service_that_hangs(world: Stage) -> None:
    """Known without waiting for a renewal, with the last contact and the reason."""
    agent = world.agents["n1"]
    system.wait_until(lambda: is_there(agent), "in contact", NOTICED_SECONDS)
    processes = system.processes_in(world.lab.host_cgroup("identity"))
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        system.wait_until(lambda: is_away(agent), "reported", NOTICED_SECONDS)
        found = service(agent)
        assert found["last_contact"] is not None
        assert found["since"] is not None
        assert found["why"]
        checked = agent.command("check")
        assert checked.returncode == 1
        assert f"identity service {world.identity.url}: unreachable" in checked.stdout
        assert "unreachable since" in agent.command("status").stdout
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    system.wait_until(lambda: is_there(agent), "in contact again", NOTICED_SECONDS)
    assert service(agent)["why"] is None
    assert agent.command("check").returncode == 0
