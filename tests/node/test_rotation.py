"""Every authority is replaced under traffic; it is the code that the demo shows."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.report import Notes
from tests.demo.rotation.steps import STEPS
from tests.demo.rotation.traffic import PORT, Traffic
from tests.demo.rotation.world import Effort, World, built
from tests.lab import system
from tests.lab.certificates import Credential
from tests.lab.node import Agent
from tests.lab.topology import random_run
from tests.node.peer import Peer
from tests.patience import patient

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
    assert time.monotonic() - began < patient(10)
    system.wait_until(
        lambda: serial(world, "web") != leaked["serial"], "a new certificate", 10
    )
    traffic.stream(world.pods["web"], world.pods["api"], 1)
    assert len(traffic.flowing()) == 3
    messages: list[str] = []
    for agent in world.agents.values():
        (listed,) = agent.ask("certificates")["revocation_lists"]
        assert (listed["revoked"], listed["outdated"]) == (1, False)
        messages += [each["message"] for each in agent.ask("events")["events"]]
    # By who read the list first: the other one finds the tunnel closed.
    assert any(f"certificate {leaked['serial']} of" in text for text in messages)


def test_a_thief_of_an_issuer(rotating: World, tmp_path: Path) -> None:
    """
    With its key he is whoever he likes, until it is tainted: then he is refused, told
    so, and nobody else is.
    """
    world = rotating
    forged = world.identity.stolen().issue(tmp_path, identity("web"))
    assert status_of(world, forged) == "200"
    name = world.authority()["issuer"]["fingerprint"]
    assert world.ca("taint", name).returncode == 0
    agent = world.agents["n2"]
    system.wait_until(
        lambda: name in agent.ask("certificates")["trust"]["tainted"], "the news", 10
    )
    assert status_of(world, forged) is None
    # Workers gather what they tell for a moment: the thief may hear first.
    system.wait_until(
        lambda: f"is under the tainted issuer {name}" in last_refusal(agent),
        "the reason as the last that is told of tunnels",
        5,
    )
    traffic = Traffic()
    traffic.stream(world.pods["web"], world.pods["api"], 1)


def status_of(world: World, credential: Credential) -> str | None:
    """What api's agent answers to a CONNECT of whoever this is; None: not a word."""
    to = world.pods["api"].address.v4
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(credential.chain, credential.key)
    sock = system.in_namespace(
        world.lab.nodes["n1"].netns, lambda: socket.create_connection((to, 15008), 5)
    )
    with context.wrap_socket(sock) as tls:
        try:
            return Peer(tls).connect(f"{to}:{PORT}")
        except (ConnectionError, ssl.SSLError):  # shut before we had said all
            return None


def last_refusal(agent: Agent) -> str:
    """The last event about somebody's tunnel, '' if there is none yet."""
    messages: list[str] = [each["message"] for each in agent.ask("events")["events"]]
    said = [text for text in messages if text.startswith("tunnel from")]
    return said[-1] if said else ""


def identity(name: str) -> str:
    return f"spiffe://cluster.local/ns/shop/sa/{name}"


def serial(world: World, name: str) -> str:
    certificates = world.agents["n1"].ask("certificates", identity=identity(name))
    found: str = certificates["certificates"][0]["serial"]
    return found
