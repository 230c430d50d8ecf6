"""
A reset never becomes a clean end, whatever else goes on when it comes.

An error of a socket is told once: to whoever asks first, be it a write, a read or
SO_ERROR; who asks next is told the end of the stream. So wherever the two directions
share a socket, one of them could swallow the reset and the other pass on a clean end:
a file cut short would look complete. It is a matter of order, so it is tried often, on
real sockets, in situations drawn at random but the same each time.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Final

import pytest
import trio
import trio.testing

from agent.errors import PodlockError
from agent.hbone.connection import ConnectRequest
from agent.hbone.events import StreamEnded
from agent.proxy.relay import relay
from agent.proxy.session import Meter, Traffic
from agent.proxy.share import Account
from agent.proxy.sockets import closing
from agent.proxy.tunnel_stream import ApplicationGone
from agent.tcp import LINGER_RESET, tune
from tests.unit.proxy.joined import data_path, joined, scripted, tcp_pair

TIMES: Final = 200
BUFFER_BYTES: Final = 32768
PIECE: Final = bytes(65536)
ESTABLISHED: Final = 1  # tcp_states.h


@dataclass(frozen=True, slots=True)
class Situation:
    """What goes on when one application, the leaver, resets."""

    leaver_sends: int
    """Pieces on their way to the other application, which does not read them yet."""
    other_sends: int
    """Pieces on their way to the leaver, which does not read at all."""
    other_has_ended: bool
    """Whether the other application has finished writing."""
    steps: int
    """How often the proxy gets a turn between the last piece and the reset."""
    other_reads_first: bool
    """Whether the other application makes room just before the reset."""


def situation(chance: Random) -> Situation:
    """Idle, busy, or blocked, in either direction or both."""
    some = (0, 1, 3, 200)
    return Situation(
        chance.choice(some),
        chance.choice(some),
        chance.random() < 0.3,
        chance.randrange(6),
        chance.random() < 0.3,
    )


def small_buffers(*socks: socket.socket) -> None:
    """So that a direction is soon blocked."""
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)


async def send_some(sock: socket.socket, pieces: int) -> None:
    """Send up to so many pieces, fewer when nobody takes them any more."""
    for _ in range(pieces):
        try:
            sock.send(PIECE)
        except BlockingIOError:
            await trio.testing.wait_all_tasks_blocked()
            try:
                sock.send(PIECE)
            except BlockingIOError:
                return


async def leave_by_reset(
    leaver: socket.socket, other: socket.socket, now: Situation
) -> str:
    """Bring the situation about, reset, and tell how it ends for the other one."""
    await send_some(leaver, now.leaver_sends)
    await send_some(other, now.other_sends)
    if now.other_has_ended:
        other.shutdown(socket.SHUT_WR)
    for _ in range(now.steps):
        await trio.lowlevel.checkpoint()
    if now.other_reads_first:
        with contextlib.suppress(BlockingIOError):
            other.recv(65536)
    leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    leaver.close()
    return await ending(other)


async def ending(sock: socket.socket) -> str:
    """How the stream to an application ends; what comes before is passed over."""
    with trio.fail_after(5):
        while True:
            try:
                if not sock.recv(65536):
                    return "a clean end"
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)
            except OSError as error:
                return errno.errorcode[error.errno or 0]


@contextlib.asynccontextmanager
async def through_the_relay() -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """A client and a server with a plain relay between them."""
    client, near = tcp_pair()
    server, far = tcp_pair()
    small_buffers(client, near, server, far)

    async def carry() -> None:
        with contextlib.suppress(ApplicationGone), closing(near), closing(far):
            await relay(near, far, Traffic(), path.reactor, Account())

    async with data_path() as path, trio.open_nursery() as nursery:
        nursery.start_soon(carry)
        await trio.testing.wait_all_tasks_blocked()
        yield client, server
        nursery.cancel_scope.cancel()  # a relay that missed the end fails the test
    client.close()
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("client_leaves", [True, False], ids=["client", "server"])
async def test_through_a_plain_relay(client_leaves: bool) -> None:
    """Whoever resets, the other side sees ECONNRESET and never an orderly end."""
    chance = Random(1)
    endings = set()
    for _ in range(TIMES):
        now = situation(chance)
        async with through_the_relay() as (client, server):
            leaver, other = (client, server) if client_leaves else (server, client)
            endings.add((await leave_by_reset(leaver, other, now), now))
    assert {how for how, _ in endings} == {"ECONNRESET"}, endings


@pytest.mark.slow
@pytest.mark.parametrize("client_leaves", [True, False], ids=["client", "server"])
async def test_through_a_tunnel(client_leaves: bool) -> None:
    """The same where RST_STREAM carries the reset from node to node."""
    chance = Random(2)
    endings = set()
    async with joined() as ends:
        tune(ends.client.transport.tls)
        tune(ends.server.transport.tls)
        for _ in range(TIMES):
            now = situation(chance)
            client, server = (app.socket for app in await ends.connect())
            mine, theirs = (client, server) if client_leaves else (server, client)
            with (
                socket.socket(fileno=mine.detach()) as leaver,
                socket.socket(fileno=theirs.detach()) as other,
            ):
                small_buffers(leaver, other, *ends.ours)
                endings.add((await leave_by_reset(leaver, other, now), now))
    assert {how for how, _ in endings} == {"ECONNRESET"}, endings


async def test_a_failed_stream_ends_nothing_in_order() -> None:
    """
    What waited for the application was dropped, so the peer's end of file, which may
    come before the connection's task hears, would be a lie: it sees a reset.
    """
    app, sock = tcp_pair()
    for each in (app, sock):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with scripted() as ends:
        stream = ends.tunnel.open_stream(ConnectRequest("10.0.0.2:80"))
        await ends.hear()
        ends.codec.accept(1)
        ends.say(bytes(1 << 19), 1)
        assert await stream.answer() == 200

        async def carry() -> None:
            with pytest.raises(PodlockError, match="revoked"), closing(sock):
                await stream.relay(sock, Meter(Traffic(), True))

        ends.nursery.start_soon(carry)
        with trio.fail_after(5):
            while stream._app is None:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert stream._backlog
        stream.fail(PodlockError("revoked"))
        stream.hear(StreamEnded(1))
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        assert state == ESTABLISHED  # no FIN was queued
        await trio.testing.wait_all_tasks_blocked()
    assert sock.fileno() < 0
    app.close()
