"""A node whose certificates come from a SPIFFE agent, beside one with our service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.demo import stage
from tests.demo.stage import MESHED, Stage
from tests.lab.certificates import Credential
from tests.lab.node import Agent, Document
from tests.lab.spiffe_agent import SpiffeAgent

pytestmark = pytest.mark.slow

NODE = "n1"


@pytest.fixture
def spiffe(world: Stage, tmp_path: Path) -> Iterator[SpiffeAgent]:
    """It has an SVID for each pod of node 1, under the anchor that both nodes trust."""
    with SpiffeAgent(tmp_path / "spiffe.sock") as agent:
        push(world, agent, tmp_path / "first")
        yield agent


def push(world: Stage, agent: SpiffeAgent, directory: Path) -> None:
    """New SVIDs for the pods of node 1, made in `directory`."""
    thief = world.identity.stolen()
    anchor = x509.load_pem_x509_certificate(world.identity.anchors.read_bytes())
    identities = [world.identity_of(pod) for pod in MESHED[NODE]]
    agent.push(
        [
            (name, *_der(thief.issue(directory / str(number), name)))
            for number, name in enumerate(identities)
        ],
        anchor.public_bytes(Encoding.DER),
    )


def _der(credential: Credential) -> tuple[bytes, bytes]:
    chain = x509.load_pem_x509_certificates(credential.chain.read_bytes())
    key = load_pem_private_key(credential.key.read_bytes(), None)
    return b"".join(each.public_bytes(Encoding.DER) for each in chain), (
        key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    )


def restart(agent: Agent, settings: Document) -> None:
    agent.stop()
    agent.settings = settings
    agent.start()
    stage.wait_captured(agent)


def test_pods_speak_under_its_svids(world: Stage, spiffe: SpiffeAgent) -> None:
    """The other node sees the SPIFFE agent's certificate and lets it in as ever."""
    agent = world.agents[NODE]
    source = {"workload_api": spiffe.address}
    nothing = dict.fromkeys(("service", "anchors", "token"))
    try:
        restart(agent, {"identity": {**nothing, **source}})
        answer = world.pods["web"].run(
            "curl", "-sS", f"http://{world.pods['api'].address.v4}/"
        )
        assert answer.stdout == world.page("api"), answer.stderr
        held = {
            each["identity"]: each["serial"]
            for each in agent.ask("certificates")["certificates"]
        }
        told = world.agents["n2"].ask("connections")["recent"][-1]
        assert told["peer"]["serial"] == held[world.identity_of("web")]
        assert spiffe.calls == 1
    finally:
        restart(agent, {})
