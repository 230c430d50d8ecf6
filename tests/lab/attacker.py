"""
An attacker who owns the wire: every packet passes him, and he may answer for anybody.

He sits in the router between the nodes. Policy routing brings the tunnel connections
of one pair of pods to his own listener, with their addresses as they were
(IP_TRANSPARENT); onward he speaks from the client's own address, so neither end can
tell by looking. What he then does is an `Attack`: relay and record, alter a record,
or pose as the server. All of it is IPv4, between two pods, for the time of a `with`.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from tests.lab import system, tlsview
from tests.lab.capture import TUNNEL_PORT
from tests.lab.certificates import Credential
from tests.lab.pod import Pod
from tests.lab.topology import Lab
from tests.patience import patient

IP_TRANSPARENT: Final = 19
ROUTING_TABLE: Final = 100
RECEIVE_BYTES: Final = 1 << 16
PATIENCE_SECONDS: Final = patient(3.0)

Alteration = Callable[[bytes], bytes]
Onward = Callable[[], socket.socket]


class Attack(Protocol):
    """What is done with one intercepted connection; called in a thread of its own."""

    def meet(self, client: socket.socket, onward: Onward, /) -> None:
        """Handle the connection; `onward()` connects to the real server."""


class Attacker:
    """
    `with Attacker(lab, client, server, attack):` intercepts that pair's tunnels.

    Connections that were open before stall while he sits there, so use a pair with
    none. Leaving closes whatever he relays, and takes him off the wire.
    """

    def __init__(self, lab: Lab, client: Pod, server: Pod, attack: Attack) -> None:
        self._lab, self._client, self._server = lab, client, server
        self._attack = attack
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener = system.in_namespace(self._lab.wire, self._listen)
        self._route("add")
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        for each in [self._listener, *self._sockets]:
            each.close()
        self._route("delete")

    def connect_as_client(self, port: int = 0) -> socket.socket:
        """Connect to the server's tunnel port from the client's own address."""

        def connect() -> socket.socket:
            onward = _transparent()
            self._sockets.append(onward)
            onward.settimeout(PATIENCE_SECONDS)
            onward.bind((self._client.address.v4, port))
            onward.connect((self._server.address.v4, TUNNEL_PORT))
            return onward

        return system.in_namespace(self._lab.wire, connect)

    def _listen(self) -> socket.socket:
        listener = _transparent()
        listener.bind(("0.0.0.0", TUNNEL_PORT))  # noqa: S104 (his own namespace)
        listener.listen()
        return listener

    def _route(self, verb: str) -> None:
        client, server = self._client, self._server
        there = f"from {client.address.v4} to {server.address.v4}"
        back = f"from {server.address.v4} to {client.address.v4}"
        table = f"lookup {ROUTING_TABLE}"
        lines = [
            f"rule {verb} iif to-{client.node} {there} ipproto tcp "
            f"dport {TUNNEL_PORT} {table}",
            f"rule {verb} iif to-{server.node} {back} ipproto tcp "
            f"sport {TUNNEL_PORT} {table}",
            f"route {verb} local default dev lo table {ROUTING_TABLE}",
        ]
        system.ip_batch(self._lab.wire.name, lines)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="attacker", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, address = self._listener.accept()
            except OSError:
                return  # closed by __exit__
            self._sockets.append(client)
            self._spawn(functools.partial(self._meet, client, address[1]))

    def _meet(self, client: socket.socket, port: int) -> None:
        with contextlib.suppress(OSError):
            self._attack.meet(client, lambda: self.connect_as_client(port))


@dataclass(slots=True)
class Relay:
    """
    Pass everything on and keep a copy; alter what the client sends, if asked to.

    `sent` has one entry for each connection: the client's bytes, as they came.
    """

    alter: Alteration | None = None
    sent: list[bytearray] = field(default_factory=list)
    altered: int = 0

    def meet(self, client: socket.socket, onward: Onward, /) -> None:
        """Relay both ways until either end closes."""
        server = onward()
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        copy = bytearray()
        self.sent.append(copy)
        self._forward(client, server, copy)
        back.join()

    def _forward(
        self, client: socket.socket, server: socket.socket, copy: bytearray
    ) -> None:
        pending = b""
        with contextlib.suppress(OSError):
            while data := client.recv(RECEIVE_BYTES):
                copy += data
                records, pending = tlsview.split_records(pending + data)
                server.sendall(b"".join(map(self._passed_on, records)))
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _passed_on(self, record: tlsview.Record) -> bytes:
        whole = record.header + record.body
        if self.alter is None:
            return whole
        changed = self.alter(whole)
        self.altered += changed != whole
        return changed


def flip_one_byte(at_least: int, after: int = 0) -> Alteration:
    """
    Flip one bit in a protected record that carries `at_least` bytes: the first one
    that comes after `after` others of that size.

    The size tells a record of payload from the handshake and from HTTP/2's frames.
    """
    seen = 0

    def alter(record: bytes) -> bytes:
        nonlocal seen
        if record[0] != tlsview.APPLICATION_DATA or len(record) < at_least:
            return record
        seen += 1
        if seen != after + 1:
            return record
        middle = len(record) // 2
        return record[:middle] + bytes([record[middle] ^ 1]) + record[middle + 1 :]

    return alter


@dataclass(slots=True)
class Impostor:
    """
    Answer in the server's place, with a certificate of the attacker's choice.

    `accepted` counts the clients that took it for the server, `leaked` is what they
    then said, `refusals` is how the others broke off.
    """

    credential: Credential
    accepted: int = 0
    leaked: bytearray = field(default_factory=bytearray)
    refusals: list[str] = field(default_factory=list)

    def meet(self, client: socket.socket, _onward: Onward, /) -> None:
        """Shake hands as the server and listen."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self.credential.chain, self.credential.key)
        client.settimeout(PATIENCE_SECONDS)
        try:
            with context.wrap_socket(client, server_side=True) as trusted:
                self.accepted += 1
                while data := trusted.recv(RECEIVE_BYTES):
                    self.leaked += data
        except (ssl.SSLError, OSError) as error:
            self.refusals.append(str(error))


def replay(attacker: Attacker, recorded: bytes) -> bytes:
    """Send a recorded client's bytes in a new connection; return the answer."""
    answer = bytearray()
    with attacker.connect_as_client() as server, contextlib.suppress(OSError):
        server.sendall(recorded)
        while data := server.recv(RECEIVE_BYTES):
            answer += data
    return bytes(answer)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(RECEIVE_BYTES):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _transparent() -> socket.socket:
    """A TCP socket that may use addresses which are not this machine's."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    return sock
