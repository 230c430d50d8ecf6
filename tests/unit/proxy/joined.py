"""Two tunnel ends on loopback, real TLS between them, and applications at both."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio

from agent.hbone.connection import Connection, ConnectRequest, Role
from agent.hbone.events import Event, PongReceived, SettingsReceived, WindowOpened
from agent.hbone.settings import DEFAULT, Settings
from agent.identity.chain import Chain
from agent.identity.peer import Judge
from agent.identity.spiffe import SpiffeId
from agent.proxy.data_path import DataPath
from agent.proxy.limits import ProxyLimits
from agent.proxy.papers import Papers
from agent.proxy.session import Meter, Traffic
from agent.proxy.sockets import closing
from agent.proxy.tls import build_contexts, verified_peer
from agent.proxy.transport import Transport
from agent.proxy.tunnel import Tunnel
from agent.proxy.tunnel_stream import TunnelStream
from tests.unit.identity.parts import API, BATCH, credential_for, make_authority

LIMITS = ProxyLimits()
AUTHORITY = make_authority(datetime.now(UTC))
JUDGE = Judge(AUTHORITY.bundle)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def app_pair() -> tuple[trio.SocketStream, socket.socket]:
    """An application's end, and the proxy's end of its connection."""
    app, ours = tcp_pair()
    return trio.SocketStream(trio.socket.from_stdlib_socket(app)), ours


@dataclass(slots=True, eq=False)
class Joined:
    """A client tunnel and a server tunnel; each stream gets a server application."""

    client: Tunnel
    server: Tunnel
    nursery: trio.Nursery
    outcomes: list[str] = field(default_factory=list)
    ended: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(0))
    traffic: list[Traffic] = field(default_factory=list)
    apps: list[trio.SocketStream] = field(default_factory=list)
    next_server: socket.socket | None = None
    ours: tuple[socket.socket, ...] = ()
    """The proxy's two ends of the last connection's applications."""

    async def connect(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        """A connection through the tunnel: the client's and the server's end."""
        client_app, client_sock = app_pair()
        server_app, server_sock = app_pair()
        self.apps += [client_app, server_app]
        self.next_server = server_sock
        self.ours = client_sock, server_sock
        stream = self.client.open_stream(ConnectRequest("10.0.0.2:80"))
        assert await stream.answer() == 200
        self.nursery.start_soon(self._relay, stream, client_sock, True)
        return client_app, server_app

    def serve(
        self, _tunnel: Tunnel, stream: TunnelStream, asked: ConnectRequest
    ) -> None:
        sock = self.next_server
        assert sock is not None
        assert asked.authority == "10.0.0.2:80"
        stream.accept()
        self.nursery.start_soon(self._relay, stream, sock, False)

    async def _relay(
        self, stream: TunnelStream, sock: socket.socket, is_client: bool
    ) -> None:
        traffic = Traffic()
        self.traffic.append(traffic)
        name = "client" if is_client else "server"
        try:
            with closing(sock), stream.aborting():
                await stream.relay(sock, Meter(traffic, is_client))
        except Exception as error:  # noqa: BLE001  (the test looks at it)
            self.outcomes.append(f"{name}: {error}")
        else:
            self.outcomes.append(f"{name}: closed")
        self.ended.release()


async def handshake(
    client_identity: SpiffeId = BATCH,
    server_identity: SpiffeId = API,
) -> tuple[Transport, Transport]:
    """Both ends of a TLS connection between two identities of AUTHORITY."""
    now = datetime.now(UTC)
    near, far = tcp_pair()
    contexts = [
        build_contexts(credential_for(AUTHORITY, who, now), AUTHORITY.bundle)
        for who in (client_identity, server_identity)
    ]
    done: dict[str, Transport] = {}

    async def shake(name: str, sock: socket.socket) -> None:
        server = name == "server"
        context = contexts[1].server if server else contexts[0].client
        done[name] = await Transport.handshake(
            sock, context, server=server, timeout_seconds=5
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, "client", near)
        nursery.start_soon(shake, "server", far)
    return done["client"], done["server"]


def papers_of(transport: Transport, expected: SpiffeId | None) -> Papers:
    """What both ends of a `handshake` showed, as one of them sees it."""
    ours = API if expected is None else BATCH
    shown = credential_for(AUTHORITY, ours, datetime.now(UTC))
    return Papers(
        Chain.of_credential(shown, AUTHORITY.bundle),
        verified_peer(transport.tls, JUDGE, expected),
    )


async def receive(transport: Transport, buffer: memoryview) -> int:
    """Wait for bytes of a TLS connection that no reactor watches; 0 at its end."""
    while (count := transport.receive_now(buffer)) is None:
        await trio.lowlevel.wait_readable(transport.tls)
    return count


@asynccontextmanager
async def data_path() -> AsyncIterator[DataPath]:
    """A reactor that runs for the length of the block."""
    path = DataPath()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(path.run)
        yield path
        nursery.cancel_scope.cancel()
    path.reactor.close()


@asynccontextmanager
async def joined() -> AsyncIterator[Joined]:
    """Two running tunnels; what is still open at the end is closed."""
    near, far = await handshake()
    async with data_path() as path, trio.open_nursery() as nursery:
        client = Tunnel(
            near,
            Connection(Role.CLIENT),
            papers_of(near, API),
            LIMITS,
            path,
        )
        server = Tunnel(
            far,
            Connection(Role.SERVER),
            papers_of(far, None),
            LIMITS,
            path,
            on_request=lambda *asked: ends.serve(*asked),
        )
        ends = Joined(client, server, nursery)
        await nursery.start(client.run)
        await nursery.start(server.run)
        yield ends
        client.shut("the test is over")
        server.shut("the test is over")
        for app in ends.apps:
            app.socket.close()


@dataclass(slots=True, eq=False)
class Scripted:
    """A client tunnel whose far end is a codec that the test speaks for."""

    tunnel: Tunnel
    codec: Connection
    far: Transport
    nursery: trio.Nursery

    async def hear(self) -> list[Event]:
        """What the tunnel says next."""
        buffer = memoryview(bytearray(1 << 18))
        events: list[Event] = []
        while not events:
            count = await receive(self.far, buffer)
            events = [e for e in self.codec.receive(buffer[:count]) if _is_loud(e)]
            self.say()
        return events

    def say(self, data: bytes = b"", stream_id: int = 0) -> None:
        """Send what the codec has queued, and `data` on a stream."""
        out = self.codec.take_output()
        if data:
            out += self.codec.data_header(stream_id, len(data)) + data
        if out:
            assert self.far.send_now(memoryview(out)) == len(out)


def _is_loud(event: Event) -> bool:
    return not isinstance(event, SettingsReceived | WindowOpened | PongReceived)


@asynccontextmanager
async def scripted(server: Settings = DEFAULT) -> AsyncIterator[Scripted]:
    """A running client tunnel and the far end's codec, with these settings."""
    near, far = await handshake()
    async with data_path() as path, trio.open_nursery() as nursery:
        tunnel = Tunnel(
            near,
            Connection(Role.CLIENT),
            papers_of(near, API),
            LIMITS,
            path,
        )
        await nursery.start(tunnel.run)
        yield Scripted(tunnel, Connection(Role.SERVER, server), far, nursery)
        tunnel.shut("the test is over")
        far.close()
