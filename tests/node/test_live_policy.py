"""A policy change under live connections, of every path; see test_direct for direct."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo import stage
from tests.demo.calls import NewConnections, NewEvents, Program, curl, url
from tests.demo.stage import SHOP, Stage
from tests.lab import apps, manifests, system
from tests.lab.manifests import Manifest
from tests.lab.node import Document
from tests.node.test_policy import is_open

pytestmark = pytest.mark.slow


@pytest.fixture
def held(world: Stage) -> Iterator[dict[str, Program]]:
    """
    A live connection to `open` of each kind: tunnel, tunnel on the same node,
    plaintext; and one of `courier`, which nothing happens to.
    """
    to = world.pods["open"].address.v4
    programs = {
        name: Program(world.pods[name], "hold", to, apps.HTTP_PORT)
        for name in ("web", "cache", "outsider", "courier")
    }
    for program in programs.values():
        program.wait("answer")
    try:
        yield programs
    finally:
        for program in programs.values():
            program.kill()
        if (world.directory.path / "open.yaml").exists():
            world.directory.remove("open")
        world.directory.write("world", *stage.world_objects(world))
        system.wait_until(lambda: is_open(world), "policies as before", 5)


def rules(*accounts: str, access: str = "deny") -> list[Manifest]:
    """A Server of `open` on port 80; these accounts are authorized."""
    server = manifests.server("open", SHOP, "open", apps.HTTP_PORT, access)
    return [
        server,
        manifests.authorization_policy("open", SHOP, "open", "open"),
        manifests.mesh_tls_authentication("open", SHOP, *accounts),
    ]


def goes_on(program: Program) -> None:
    """It answers twice more."""
    program.wait("answer", len(program.told("answer")) + 2)
    assert not program.told("closed")


def open_ones(world: Stage) -> dict[str, Document]:
    """The live connections to `open`, by client."""
    told = world.agents["n2"].ask("connections", workload="shop/open")["open"]
    return {
        (each["source"]["workload"] or "outsider").rpartition("/")[2]: each
        for each in told
        if each["direction"] == "inbound"
    }


def test_those_that_lost_their_permit(world: Stage, held: dict[str, Program]) -> None:
    """Tunnel, same node and plaintext end, each with the reason; the other lives."""
    watch = NewConnections(world.agents["n2"], workload="shop/open", outcome="refused")
    world.directory.write("open", *rules("courier"))
    for name in ("web", "cache", "outsider"):
        held[name].wait("closed")
    goes_on(held["courier"])
    told = watch.wait_for(3)
    assert {each["path"] for each in told} == {"tunnel", "plaintext"}
    for each in told:
        assert "no authorization of Server shop/open matches" in each["reason"]
        assert each["rule"] == "Server shop/open"
        assert each["received_bytes"] > 0
    assert open_ones(world)["courier"]["rule"] == "AuthorizationPolicy shop/open"


def test_those_that_are_audited_from_now_on(
    world: Stage, held: dict[str, Program]
) -> None:
    """All live on; the record, the events and the count say what would be denied."""
    events = NewEvents(world.agents["n2"])
    before = world.agents["n2"].ask("status")["counts"]["audited"]
    world.directory.write("open", *rules("courier", access="audit"))
    rule = "Server shop/open accessPolicy audit"

    def audited() -> set[str]:
        told = open_ones(world)
        return {name for name, each in told.items() if each["audit"] == rule}

    names = {"web", "cache", "outsider"}
    system.wait_until(lambda: audited() == names, "three are audited", 5)
    for program in held.values():
        goes_on(program)
    told = [line for line in events.messages() if line.startswith("audit: shop/open")]
    assert len(told) == len(names)
    assert all(f"would be denied by {rule}" in line for line in told)
    assert world.agents["n2"].ask("status")["counts"]["audited"] == before + 3
    assert "WOULD BE DENIED BY" in world.agents["n2"].command("status").stdout

    # And back: nothing is audited any more, nothing has ended.
    world.directory.remove("open")
    system.wait_until(lambda: not audited(), "none is audited", 5)
    for program in held.values():
        goes_on(program)


def test_passing_through(world: Stage) -> None:
    """Plaintext to a pod outside ends when that pod joins, and goes by tunnel then."""
    outsider, web = world.pods["outsider"], world.pods["web"]
    apps.start_nginx(outsider, {"index.html": "outside\n"})
    to = outsider.address.v4
    held = Program(web, "hold", to, apps.HTTP_PORT)
    other = Program(web, "hold", world.pods["open"].address.v4, apps.HTTP_PORT)
    for program in (held, other):
        program.wait("answer")
    watch = NewConnections(world.agents["n1"], path="passthrough", outcome="refused")
    try:
        world.directory.write("world", *stage.world_objects(world, outside=True))
        held.wait("closed")
        (told,) = watch.wait_for(1)
        assert told["reason"] == "outside/outsider is in the mesh now"
        goes_on(other)
        system.wait_until(lambda: curl(web, url(to)).served, "by tunnel", 5)
        (record, *_) = [
            each
            for each in world.agents["n1"].ask("connections")["recent"][::-1]
            if each["direction"] == "inbound"
        ]
        assert record["path"] == "tunnel"
        assert record["destination"]["workload"] == "outside/outsider"
    finally:
        other.kill()
        world.directory.write("world", *stage.world_objects(world))
        agent = world.agents["n1"]
        system.wait_until(
            lambda: "outsider" not in stage.captured(agent), "outside again", 5
        )
