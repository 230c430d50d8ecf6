"""A pod's object is made anew: no frame of it is readable on the wire meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.demo import stage
from tests.demo.calls import curl, url
from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.capture import WireTap
from tests.lab.manifests import Manifest

pytestmark = pytest.mark.slow

CHANGES = 6
CALLS = 15
CHANGED = ("web", "open")
Change = Callable[[Manifest, int], None]


def uid(pod: Manifest, turn: int) -> None:
    pod["metadata"]["uid"] = f"again-{turn}-{pod['metadata']['name']}"


def account(pod: Manifest, turn: int) -> None:
    pod["spec"]["serviceAccountName"] = f"account-{turn}"


def label(pod: Manifest, turn: int) -> None:
    pod["metadata"]["labels"]["turn"] = str(turn)


def annotation(pod: Manifest, turn: int) -> None:
    pod["metadata"]["annotations"]["turn"] = str(turn)


@pytest.fixture
def restored(world: Stage) -> Iterator[None]:
    yield
    world.directory.write("world", *stage.world_objects(world))
    for agent in world.agents.values():
        agent.wait_ready()
        stage.wait_captured(agent)


def _has(made: list[str], count: int) -> bool:
    return len(made) >= count


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("change", [uid, account, label, annotation])
def test_stays_in_the_mesh(world: Stage, change: Change) -> None:
    """Both ends change, again and again, under connections without a pause."""
    to = url(world.pods["open"].address.v4)
    done = threading.Event()
    made: list[str] = []

    def call() -> None:
        while not done.is_set():
            made.append(str(curl(world.pods["web"], to)))

    caller = threading.Thread(target=call)
    with WireTap(world.lab, f"changes-{change.__name__}") as tap:
        caller.start()
        try:
            for turn in range(CHANGES):
                objects = stage.world_objects(world)
                for each in objects:
                    if each["kind"] == "Pod" and each["metadata"]["name"] in CHANGED:
                        change(each, turn)
                wanted = len(made) + CALLS
                world.directory.write("world", *objects)
                system.wait_until(partial(_has, made, wanted), "calls", 60)
        finally:
            done.set()
            caller.join()
    wire = tap.read()
    assert wire.faults() == []
    assert wire.readable([world.secret.encode()]) == []
    assert curl(world.pods["web"], to).body
