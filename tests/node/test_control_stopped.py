"""Control does not run (SIGSTOP, swapping, a bug): nothing is let in by what it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo.calls import NewEvents, curl, url
from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.node import Agent
from tests.node.test_workers import restart, stopped
from tests.patience import patient

pytestmark = pytest.mark.slow

TIMEOUT_SECONDS = patient(2.0)
NOTICED_SECONDS = TIMEOUT_SECONDS + patient(10.0)


@pytest.fixture(scope="module")
def agent(world: Stage) -> Iterator[Agent]:
    """The agent of api's node, whose workers notice soon."""
    found = world.agents[world.pods["api"].node]
    limits = {"control_timeout_seconds": TIMEOUT_SECONDS}
    try:
        restart(found, {"limits": limits})
        yield found
    finally:
        restart(found, {})


def test_new_connections_are_refused_until_it_runs_again(
    world: Stage, agent: Agent
) -> None:
    to = url(world.pods["api"].address.v4)
    events = NewEvents(agent)

    def is_served() -> bool:
        return bool(curl(world.pods["web"], to).served)

    def is_refused() -> bool:
        return not is_served()

    assert is_served()
    with stopped(agent.ask("status")["pid"]):
        world.let_in("courier")  # web's permit is revoked, which control does not see
        system.wait_until(is_refused, "web is refused", NOTICED_SECONDS)
        done = agent.command("status")
        assert done.returncode != 0
        assert "is stopped by a signal (T)" in done.stderr
        assert is_refused()
        world.let_in("web", "courier")
    system.wait_until(is_served, "web is served again", NOTICED_SECONDS)
    said = "\n".join(events.messages())
    assert "no new connections are taken" in said
    assert "control answers again" in said
