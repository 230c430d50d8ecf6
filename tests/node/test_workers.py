"""Several workers on one node: who serves whom, and what one that hangs costs."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.demo import stage
from tests.demo.calls import NewEvents, Program, curl, url
from tests.demo.stage import Stage
from tests.lab import apps, system
from tests.lab.node import Agent, Document
from tests.patience import patient

Record = Callable[[str, object], None]

pytestmark = pytest.mark.slow

WORKERS = 4
CONNECTIONS = 200
TIMEOUT_SECONDS = patient(3.0)
# A ping may be a tick late and a look another; then a process starts.
REPLACED_SECONDS = TIMEOUT_SECONDS * 1.2 + patient(5)
GROWTH_BYTES = 8 << 20


@pytest.fixture(scope="module")
def agent(world: Stage) -> Iterator[Agent]:
    """The agent of node 1 with four workers, and as it was afterwards."""
    found = world.agents["n1"]
    limits = {"worker_timeout_seconds": TIMEOUT_SECONDS}
    try:
        restart(found, {"workers": WORKERS, "limits": limits})
        yield found
    finally:
        restart(found, {})


def restart(agent: Agent, settings: Document) -> None:
    agent.stop()
    agent.settings = settings
    agent.start()
    stage.wait_captured(agent)


def workers(agent: Agent) -> list[Document]:
    found: list[Document] = agent.ask("status")["workers"]
    return found


def spread(agent: Agent) -> list[int]:
    """How many connections each worker has."""
    return [worker["connections"] for worker in workers(agent)]


@contextlib.contextmanager
def crowd(
    world: Stage, agent: Agent, count: int, how: str = "once"
) -> Iterator[Program]:
    """So many connections of web to open, all of them answered."""
    to = world.pods["open"].address.v4
    program = Program(world.pods["web"], "crowd", to, apps.HTTP_PORT, count, how)
    try:
        program.wait("open", seconds=30)
        system.wait_until(lambda: sum(spread(agent)) == count, "all told", 5)
        yield program
    finally:
        program.kill()


def wait_quiet(agent: Agent) -> None:
    """Wait until every worker runs and none has a connection."""
    system.wait_until(lambda: agent.ask("status")["ready"], "ready", 10)
    system.wait_until(lambda: not sum(spread(agent)), "quiet", 10)


def closed(crowd: Program, at_least: int) -> int | None:
    """How many of a crowd have ended, once it is so many."""
    told = [line["count"] for line in crowd.told("closed")]
    return told[-1] if told and told[-1] >= at_least else None


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does not run, and goes on afterwards if it is still there."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["once", "turns"])
def test_every_worker_has_its_share(
    world: Stage, agent: Agent, record_property: Record, how: str
) -> None:
    """
    Two hundred connections, at once or one by one: nobody has most of them, nobody
    none. Who wakes first decides, so it is not exact.
    """
    wait_quiet(agent)
    with crowd(world, agent, CONNECTIONS, how):
        found = spread(agent)
    record_property(f"{how}: connections by worker", found)
    assert min(found) > 0
    assert max(found) < CONNECTIONS * 0.75


def test_a_stopped_worker_holds_nobody(
    world: Stage, agent: Agent, record_property: Record
) -> None:
    """All share one accept queue: those who come now go to the others."""
    wait_quiet(agent)
    pid = workers(agent)[0]["pid"]
    began = time.monotonic()
    with stopped(pid), crowd(world, agent, CONNECTIONS):
        seconds = time.monotonic() - began
        found = spread(agent)
        assert workers(agent)[0]["pid"] == pid, "replaced before it was looked at"
    record_property("one stopped", [*found, round(seconds, 2)])
    assert found[0] == 0


def test_a_hung_worker_is_replaced(
    world: Stage, agent: Agent, record_property: Record
) -> None:
    """
    Within its time, with an event that says why. What the others carry goes on, new
    connections are served throughout, control does not grow, and the new one knows
    the world that changed meanwhile.
    """
    wait_quiet(agent)
    events = NewEvents(agent)
    control = agent.ask("status")["pid"]
    memory = system.proportional_memory([control])
    with crowd(world, agent, 40) as held:
        before = workers(agent)
        hung = max(before, key=lambda worker: worker["connections"])
        began = time.monotonic()
        os.kill(hung["pid"], signal.SIGSTOP)
        for number in itertools.count():
            # A change each time, which the stopped one does not take.
            world.directory.write("moving", moving(number))
            answer = curl(world.pods["buyer"], url(world.pods["open"].address.v4))
            assert answer.served, answer
            now = workers(agent)[hung["index"]]
            if now["pid"] not in (None, hung["pid"]):
                break
            assert time.monotonic() - began < REPLACED_SECONDS
        seconds = time.monotonic() - began
        expected = hung["connections"]
        lost = system.wait_until(lambda: closed(held, expected), "its own closed", 5)
    grown = system.proportional_memory([control]) - memory
    record_property("replaced after, lost, grown", [seconds, lost, grown])
    assert lost == expected
    assert seconds > TIMEOUT_SECONDS
    assert grown < GROWTH_BYTES
    name = f"worker {hung['index']}: process {hung['pid']}"
    happened = [line for line in events.messages() if line.startswith("worker-")]
    assert len(happened) == 2, happened
    killed = f"gave no sign of life for {TIMEOUT_SECONDS:g} s and was killed"
    assert f"{name} {killed}" in happened[0]
    assert f"{name} ended, and {lost} connections with it" in happened[1]
    assert not Path(f"/proc/{hung['pid']}").exists()


def moving(number: int) -> Document:
    """A pod somewhere else whose address is never the same."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "moving", "namespace": "shop", "uid": "moving"},
        "spec": {"nodeName": "n9", "serviceAccountName": "moving"},
        "status": {"phase": "Running", "podIP": f"10.244.99.{number % 250 + 1}"},
    }
