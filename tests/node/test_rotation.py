"""Every authority is replaced under traffic; it is the code that the demo shows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.demo.report import Notes
from tests.demo.rotation.steps import STEPS
from tests.demo.rotation.traffic import Traffic
from tests.demo.rotation.world import Effort, World, built
from tests.lab import system
from tests.lab.topology import random_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rotating() -> Iterator[World]:
    with built(random_run(), Effort(watch_seconds=1.0)) as world:
        yield world


@pytest.mark.parametrize(
    "step", [step for _, step in STEPS], ids=[name for name, _ in STEPS]
)
def test_step(rotating: World, step: object) -> None:
    """Every fact that the step looked at was as promised."""
    notes = Notes()
    assert callable(step)
    step(rotating, notes)

    assert notes.facts
    assert not [fact.text for fact in notes.facts if not fact.held]


def test_a_leaked_key(rotating: World) -> None:
    """
    A certificate is put on a list: what rests on it ends at once, at both ends, and
    its workload has another one seconds later.
    """
    world, traffic = rotating, Traffic()
    traffic.stream(world.pods["web"], world.pods["api"], 2)
    traffic.stream(world.pods["batch"], world.pods["cache"], 2)
    (leaked,) = world.agents["n1"].ask("certificates", identity=identity("web"))[
        "certificates"
    ]
    world.revoke(int(leaked["serial"], 16))
    began = time.monotonic()
    system.wait_until(lambda: len(traffic.broken()) == 2, "web's streams end", 10)
    assert time.monotonic() - began < 10
    system.wait_until(
        lambda: serial(world, "web") != leaked["serial"], "a new certificate", 10
    )
    traffic.stream(world.pods["web"], world.pods["api"], 1)
    assert len(traffic.flowing()) == 3
    for agent in world.agents.values():
        (listed,) = agent.ask("certificates")["revocation_lists"]
        assert (listed["revoked"], listed["outdated"]) == (1, False)
    messages = [e["message"] for e in world.agents["n2"].ask("events")["events"]]
    assert any(f"certificate {leaked['serial']} of" in text for text in messages)


def identity(name: str) -> str:
    return f"spiffe://cluster.local/ns/shop/sa/{name}"


def serial(world: World, name: str) -> str:
    certificates = world.agents["n1"].ask("certificates", identity=identity(name))
    found: str = certificates["certificates"][0]["serial"]
    return found
