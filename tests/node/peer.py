"""
A peer that breaks the rules: TLS by Python, HTTP/2 by `h2`, frames by hand.

It stands outside the mesh, at the address of the demo's `outsider`, and shares no
code with the agent, so an agreement between the two is one about the standard.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.certificates import Credential
from tests.patience import patient

TUNNEL_PORT = 15008
PATIENCE_SECONDS = patient(5.0)


def dial(world: Stage, address: str, port: int = TUNNEL_PORT) -> socket.socket:
    """A TCP connection from the outsider's network namespace."""

    def connect() -> socket.socket:
        return socket.create_connection((address, port), timeout=PATIENCE_SECONDS)

    return system.in_namespace(world.pods["outsider"].netns, connect)


def dial_tls(
    world: Stage, address: str, credential: Credential | None
) -> ssl.SSLSocket:
    """A TLS connection as whoever `credential` says; the server is not checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if credential is not None:
        context.load_cert_chain(credential.chain, credential.key)
    return context.wrap_socket(dial(world, address))


def web_credential(world: Stage, directory: Path) -> Credential:
    """A valid certificate of web's, as a thief of the issuer would make it."""
    return world.identity.stolen().issue(directory, world.identity_of("web"))


class Peer:
    """An HTTP/2 client on a TLS connection."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.tls.sendall(self.h2.data_to_send())

    def ask(self, headers: list[tuple[str, str]]) -> str | None:
        """The `:status` of the answer; None when the stream or connection ended."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers)
        self.flush()
        for event in self.events():
            match event:
                case h2.events.ResponseReceived():
                    return dict(event.headers or [])[b":status"].decode()
                case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                    return None
        return None

    def connect(self, authority: str) -> str | None:
        """The status of a CONNECT."""
        return self.ask([(":method", "CONNECT"), (":authority", authority)])

    def events(self) -> list[h2.events.Event]:
        """What the server says next, until it says something of substance."""
        quiet = (
            h2.events.RemoteSettingsChanged,
            h2.events.SettingsAcknowledged,
            h2.events.WindowUpdated,
            h2.events.PingReceived,
        )
        while data := self.tls.recv(65536):
            heard = self.h2.receive_data(data)
            self.flush()
            if loud := [event for event in heard if not isinstance(event, quiet)]:
                return loud
        return []

    def raw(self, frame: bytes) -> None:
        """Send bytes as they are."""
        self.tls.sendall(frame)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.tls.close()
