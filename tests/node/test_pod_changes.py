"""A pod's object is made anew: no frame of it is readable on the wire meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest

from tests.demo import stage
from tests.demo.calls import Answer, curl, url
from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.capture import WireTap
from tests.lab.manifests import Manifest

pytestmark = pytest.mark.slow

CHANGES = 6
CALLS = 15
CHANGED = ("web", "open")
Change = Callable[[Manifest, int], None]
Part = Callable[[list[Manifest]], list[Manifest]]


def uid(pod: Manifest, turn: int) -> None:
    pod["metadata"]["uid"] = f"again-{turn}-{pod['metadata']['name']}"


def account(pod: Manifest, turn: int) -> None:
    pod["spec"]["serviceAccountName"] = f"account-{turn}"


def label(pod: Manifest, turn: int) -> None:
    pod["metadata"]["labels"]["turn"] = str(turn)


def annotation(pod: Manifest, turn: int) -> None:
    pod["metadata"]["annotations"]["turn"] = str(turn)


def netns(pod: Manifest, turn: int) -> None:
    """It is not known any more which network namespace the pod has."""
    if turn % 2:
        del pod["metadata"]["annotations"]["podlock.io/netns"]


def without_label(objects: list[Manifest]) -> list[Manifest]:
    """The namespace is not enrolled any more."""
    for each in objects:
        if each["kind"] == "Namespace":
            each["metadata"]["labels"] = {}
    return objects


def without_pods(objects: list[Manifest]) -> list[Manifest]:
    return [each for each in objects if each["kind"] != "Pod"]


def without_namespaces(objects: list[Manifest]) -> list[Manifest]:
    return [each for each in objects if each["kind"] != "Namespace"]


def with_a_claimant(objects: list[Manifest]) -> list[Manifest]:
    """The pods are absent, and others claim their network namespaces and addresses."""
    for each in objects:
        if each["kind"] == "Pod" and each["metadata"]["name"] in CHANGED:
            each["metadata"]["name"] += "-claimant"
            each["metadata"]["uid"] += "-claimant"
    return objects


@pytest.fixture
def restored(world: Stage) -> Iterator[None]:
    yield
    (world.directory.path / "broken.yaml").unlink(missing_ok=True)
    world.directory.write("world", *stage.world_objects(world))
    for agent in world.agents.values():
        agent.wait_ready()
        stage.wait_captured(agent)


def _has(made: list[Answer], count: int) -> bool:
    return len(made) >= count


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("change", [uid, account, label, annotation, netns])
def test_stays_in_the_mesh(world: Stage, change: Change) -> None:
    """Both ends change, again and again, under connections without a pause."""

    def changed(turn: int) -> list[Manifest]:
        objects = stage.world_objects(world)
        for each in objects:
            if each["kind"] == "Pod" and each["metadata"]["name"] in CHANGED:
                change(each, turn)
        return objects

    made = under_calls(world, change.__name__, map(changed, range(CHANGES)))
    if change in (account, label, annotation):
        assert [each for each in made if not each.served] == []


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "part", [without_label, without_pods, without_namespaces, with_a_claimant]
)
def test_stays_in_the_mesh_while_a_file_is_broken(world: Stage, part: Part) -> None:
    """What is absent, or says otherwise, may be in the file that cannot be read."""
    world.directory.write_text("broken", "a: [")
    reads = (part(stage.world_objects(world)) for _ in range(2))
    under_calls(world, part.__name__, reads)


def under_calls(
    world: Stage, name: str, reads: Iterable[list[Manifest]]
) -> list[Answer]:
    """
    Write each of `reads` under connections without a pause; all stay in the mesh.

    Returns: how each connection ended.
    """
    to = url(world.pods["open"].address.v4)
    done = threading.Event()
    made: list[Answer] = []

    def call() -> None:
        while not done.is_set():
            made.append(curl(world.pods["web"], to))

    caller = threading.Thread(target=call)
    with WireTap(world.lab, f"changes-{name}") as tap:
        caller.start()
        try:
            for objects in reads:
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
    return made
