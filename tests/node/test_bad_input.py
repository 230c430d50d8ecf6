"""
Manifests that are wrong: named in the status and the log by object and field, the last
good state stays in force, and everybody else is served meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.demo.stage import Stage
from tests.lab import manifests, system
from tests.lab.node import Document

pytestmark = pytest.mark.slow

FILE = "under-test"


@pytest.fixture(autouse=True)
def _others_are_served(world: Stage) -> Iterator[None]:
    """Whatever the manifest says, web reaches api; afterwards it is gone."""
    yield
    assert serves(world)
    path = world.directory.path / f"{FILE}.yaml"
    if path.exists():
        world.directory.remove(FILE)
        wait_gone(world)
    assert serves(world)


def serves(world: Stage) -> bool:
    url = f"http://{world.pods['api'].address.v4}/"
    return world.pods["web"].run("curl", "-sS", url).stdout == world.page("api")


def problems(world: Stage) -> list[Document]:
    found: list[Document] = world.agents["n2"].ask("status")["problems"]
    return found


def wait_problem(world: Stage, *words: str) -> Document:
    """A problem in node 2's status, also in its log, that says all of `words`."""

    def find() -> Document | None:
        for problem in problems(world):
            text = json.dumps(problem)
            if all(word in text for word in words):
                return problem
        return None

    problem = system.wait_until(find, f"a problem that says {words}", 5)
    assert problem["message"][:40] in world.agents["n2"].log.read_text()
    return problem


def wait_gone(world: Stage) -> None:
    system.wait_until(lambda: not problems(world), "no more problems", 5)


def test_yaml_that_does_not_parse(world: Stage) -> None:
    """The line is named."""
    world.directory.write_text(FILE, "kind: Pod\n  metadata: [\n")
    wait_problem(world, f"{FILE}.yaml:2", "not valid YAML")


def test_a_file_that_breaks_keeps_its_last_good_objects(world: Stage) -> None:
    """A policy file that is broken by an edit goes on saying what it said."""
    world.directory.write_text("policy", "kind: [broken")
    wait_problem(world, "policy", "stay in force")
    batch = world.pods["batch"].run("curl", "-sS", url_of_api(world))
    assert batch.returncode != 0
    assert serves(world)
    world.let_in("web", "courier")
    wait_gone(world)


def test_an_unknown_kind(world: Stage) -> None:
    """An object that we do not use is not passed over in silence."""
    gateway = {"apiVersion": "x.io/v1", "kind": "Gateway", "metadata": {"name": "g"}}
    world.directory.write(FILE, gateway)
    wait_problem(world, "Gateway")


def test_a_field_of_the_wrong_type(world: Stage) -> None:
    """Object and field path are named."""
    server = manifests.server("typed", "shop", "open", 80)
    server["spec"]["port"] = {"number": 80}
    world.directory.write(FILE, server)
    wait_problem(world, "Server shop/typed", "spec.port")


def test_a_misspelt_field_of_a_policy(world: Stage) -> None:
    """A policy is never wider than it reads because a key was misspelt."""
    server = manifests.server("misspelt", "shop", "open", 80)
    server["spec"]["acessPolicy"] = "deny"
    world.directory.write(FILE, server)
    wait_problem(world, "Server shop/misspelt", "acessPolicy")


def test_two_pods_with_one_address(world: Stage) -> None:
    """The one that has it keeps it; the other is reported and not believed."""
    thief = manifests.pod(world.pods["open"])
    thief["metadata"] |= {"name": "thief", "uid": "thief"}
    thief["status"]["podIPs"] = [{"ip": world.pods["api"].address.v4}]
    thief["status"]["podIP"] = world.pods["api"].address.v4
    world.directory.write(FILE, thief)
    wait_problem(world, "shop/thief", world.pods["api"].address.v4, "shop/api")


def test_a_missing_network_namespace(world: Stage) -> None:
    """The pod waits, says for what, and the agent is not ready because of it."""
    ghost = manifests.pod(world.pods["open"])
    ghost["metadata"] |= {"name": "ghost", "uid": "ghost"}
    ghost["metadata"]["annotations"]["podlock.io/netns"] = "/run/netns/no-such"
    ghost["status"] = {"podIP": "10.244.2.99", "podIPs": [{"ip": "10.244.2.99"}]}
    world.directory.write(FILE, ghost)

    def waiting() -> Document | None:
        found = world.agents["n2"].ask("workloads", workload="shop/ghost")["workloads"]
        return found[0] if found and found[0]["state"] == "waiting" else None

    told = system.wait_until(waiting, "ghost waits", 5)
    assert "/run/netns/no-such" in told["reason"]
    status = world.agents["n2"].ask("status")
    assert not status["ready"]
    assert any("shop/ghost" in why for why in status["not_ready_because"])
    world.directory.remove(FILE)
    world.agents["n2"].wait_ready(5)


def url_of_api(world: Stage) -> str:
    return f"http://{world.pods['api'].address.v4}/"
