"""`openssl s_client` at our server: both sides refuse what they should, and alike."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding

from agent.errors import PeerError
from agent.identity.bundle import Bundle
from agent.identity.certificate import Rule
from agent.identity.credential import Credential
from agent.identity.key import PrivateKey
from agent.proxy.tls import Contexts, build_contexts, verified_peer
from agent.proxy.transport import HandshakeFailed, Transport
from tests.lab.bad_chains import BAD_CHAINS
from tests.lab.forgery import Forged, Realm, leaf
from tests.unit.identity.parts import API, TD

OURS, EVIL = Realm.create(), Realm.create("evil.example")
BUNDLE = Bundle.of(TD, [OURS.anchor.der])


def contexts_of(forged: Forged) -> Contexts:
    mine = Credential.assemble(forged.chain_pem, PrivateKey.of(forged.key))
    return build_contexts(mine, BUNDLE)


@dataclass(slots=True, eq=False)
class Met:
    """What both ends made of one another."""

    said: str = ""
    """By s_client."""
    code: int = 0
    peer: str | None = None
    """Who our server took it for."""
    refused: PeerError | None = None
    listener: socket.socket = field(
        default_factory=lambda: socket.create_server(("127.0.0.1", 0))
    )

    async def serve(self, contexts: Contexts) -> None:
        listener = trio.socket.from_stdlib_socket(self.listener)
        with listener:
            sock, _ = await listener.accept()
        raw = socket.socket(fileno=sock.detach())
        raw.setblocking(False)
        try:
            ours = await Transport.handshake(
                raw, contexts.server, server=True, timeout_seconds=20
            )
        except PeerError as error:
            self.refused = error
            return
        try:
            found = verified_peer(ours.tls, contexts.judge, None)
            self.peer = str(found.svid.spiffe_id)
        except PeerError as error:
            self.refused = error
        finally:
            ours.close()


async def meet(directory: Path, client: Forged, anchor: Realm = OURS) -> Met:
    files = {"anchor": directory / "anchor.pem", "client": directory / "client.pem"}
    files["anchor"].write_bytes(anchor.anchor.certificate.public_bytes(Encoding.PEM))
    files["client"].write_bytes(client.pem)
    met = Met()
    port = met.listener.getsockname()[1]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3"]
    command += ["-alpn", "h2", "-verify_return_error", "-purpose", "sslserver"]
    command += ["-CAfile", str(files["anchor"]), "-cert", str(files["client"])]
    command += ["-key", str(files["client"])]
    if client.chain[1:]:
        above = directory / "above.pem"
        above.write_bytes(Forged(client.chain[1:], client.key).chain_pem)
        command += ["-cert_chain", str(above)]
    run = partial(subprocess.run, command, check=False, capture_output=True, text=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(met.serve, contexts_of(leaf(OURS)))
        done = await trio.to_thread.run_sync(partial(run, stdin=subprocess.DEVNULL))
    met.said, met.code = done.stdout + done.stderr, done.returncode
    return met


async def test_each_takes_the_other(tmp_path: Path) -> None:
    """A good client, and our server by OpenSSL's own verdict."""
    met = await meet(tmp_path, leaf(OURS))
    assert met.peer == str(API)
    for line in ("Verify return code: 0 (ok)", "TLSv1.3", "ALPN protocol: h2"):
        assert line in met.said


async def test_it_refuses_us_under_another_anchor(tmp_path: Path) -> None:
    """Who does not trust our authority hears nothing from us."""
    met = await meet(tmp_path, leaf(OURS), EVIL)
    assert met.code != 0
    assert "verify error" in met.said
    assert met.peer is None


@pytest.mark.parametrize(
    "name",
    ["expired", "own-authority", "tampered-signature", "path-length", "no-issuer"],
)
async def test_we_refuse_it(tmp_path: Path, name: str) -> None:
    """The reason is here, and the alert that the standard names over there."""
    (bad,) = (each for each in BAD_CHAINS if each.name == name)
    met = await meet(tmp_path, bad.forge(OURS))
    assert isinstance(met.refused, HandshakeFailed)
    assert [each.rule for each in met.refused.findings] == [Rule[bad.rule]]
