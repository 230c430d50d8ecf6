"""What an application says at once goes along with the CONNECT, and only once."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from agent.hbone.connection import ConnectRequest, ErrorCode
from agent.hbone.events import ConnectRequested, DataReceived, Event
from agent.proxy.early import EARLY_BYTES
from agent.proxy.live import LiveConnection
from agent.proxy.outbound import Outbound
from agent.proxy.pool import Pool
from agent.proxy.session import Meter, Traffic
from agent.proxy.tunnel import Tunnel, TunnelLost
from agent.proxy.tunnel_stream import PeerReset
from agent.proxy.world import World
from agent.workload.directory import Directory
from tests.unit.proxy.joined import Scripted, scripted, tcp_pair

REQUEST = ConnectRequest("10.0.0.2:80")


def told(events: list[Event]) -> bytes:
    return b"".join(bytes(e.data) for e in events if isinstance(e, DataReceived))


async def hear(ends: Scripted, count: int) -> bytes:
    """The payload that the tunnel sends, `count` bytes of it."""
    heard = b""
    with trio.fail_after(5):
        while len(heard) < count:
            heard += told(await ends.hear())
    return heard


async def test_the_first_bytes_come_before_the_answer_and_once() -> None:
    """200 after the bytes: they are not sent again, what follows is."""
    app, sock = tcp_pair()
    app.send(b"first ")
    async with scripted() as ends:
        stream = ends.tunnel.open_stream(REQUEST)
        assert stream.send_early(sock)
        assert await hear(ends, 6) == b"first "

        ends.codec.accept(1)
        ends.say()
        assert await stream.answer() == 200
        traffic = Traffic()
        ends.nursery.start_soon(stream.relay, sock, Meter(traffic, True))
        app.send(b"second")
        assert await hear(ends, 6) == b"second"
        assert traffic.sent == 12
        ends.codec.end_stream(1)
        ends.say()
        app.close()
        await trio.testing.wait_all_tasks_blocked()
    sock.close()


async def test_no_more_than_its_share() -> None:
    """The rest stays in the application's socket."""
    app, sock = tcp_pair()
    app.send(bytes(EARLY_BYTES + 1))
    async with scripted() as ends:
        assert ends.tunnel.open_stream(REQUEST).send_early(sock)
        assert len(await hear(ends, EARLY_BYTES)) == EARLY_BYTES
    app.close()
    sock.close()


@pytest.mark.parametrize("ended", [False, True], ids=["silent", "ended"])
async def test_an_application_that_says_nothing(ended: bool) -> None:
    """Nothing goes along; that it has ended is heard later."""
    app, sock = tcp_pair()
    if ended:
        app.shutdown(socket.SHUT_WR)
    async with scripted() as ends:
        assert not ends.tunnel.open_stream(REQUEST).send_early(sock)
        assert [type(event) for event in await ends.hear()] == [ConnectRequested]
    app.close()
    sock.close()


class FakePool:
    """Hands out tunnels in turn."""

    def __init__(self, *tunnels: Tunnel) -> None:
        self._tunnels = iter(tunnels)

    async def tunnel(self, *_key: object) -> Tunnel:
        await trio.lowlevel.checkpoint()
        return next(self._tunnels)


def asking(*tunnels: Tunnel) -> Outbound:
    outbound = Outbound.__new__(Outbound)
    outbound.answer_seconds = outbound.clean_seconds = 5
    outbound.pool = cast(Pool, FakePool(*tunnels))
    outbound.world = World(Directory())
    return outbound


def live_connection() -> LiveConnection:
    session = SimpleNamespace(peer=None, advance=lambda _state: None)
    pod = SimpleNamespace(uid="1", identity=None)
    live = SimpleNamespace(session=session, pod=pod, spoke_early=False)
    return cast(LiveConnection, live)


PEER = SimpleNamespace(
    peer=SimpleNamespace(uid="2", identity=None),
    delivery=None,
    tunnel=SimpleNamespace(ip=None),
)


async def test_a_tunnel_lost_after_early_bytes_is_not_tried_again() -> None:
    """The far application may have them: twice would be worse than a reset."""
    app, sock = tcp_pair()
    app.send(b"POST / HTTP/1.1\r\n")
    async with scripted() as first, scripted() as second:
        outbound = asking(first.tunnel, second.tunnel)

        async def lose() -> None:
            await hear(first, 17)
            first.far.tls.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            with pytest.raises((TunnelLost, PeerReset)):
                await outbound._ask(live_connection(), PEER, REQUEST, sock)  # type: ignore[arg-type]
        assert second.tunnel.streams == 0
    app.close()
    sock.close()


async def test_a_stream_that_the_peer_did_not_touch_is_tried_again() -> None:
    """REFUSED_STREAM (RFC 9113 section 8.7): the same bytes go to another tunnel."""
    app, sock = tcp_pair()
    app.send(b"GET /")
    async with scripted() as first, scripted() as second:
        outbound = asking(first.tunnel, second.tunnel)

        async def refuse() -> None:
            await hear(first, 5)
            first.codec.reset(1, ErrorCode.REFUSED_STREAM)
            first.say()

        async def accept() -> None:
            assert await hear(second, 5) == b"GET /"
            second.codec.accept(1)
            second.say()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse)
            nursery.start_soon(accept)
            stream = await outbound._ask(live_connection(), PEER, REQUEST, sock)  # type: ignore[arg-type]
        assert stream.tunnel is second.tunnel
    app.close()
    sock.close()


async def test_a_silent_tunnel_is_told_nothing_ahead() -> None:
    """A peer that was not heard from lately may be gone: a retry stays possible."""
    app, sock = tcp_pair()
    app.send(b"GET /")
    async with scripted() as ends:
        ends.tunnel.life.last_heard -= 2
        outbound = asking(ends.tunnel)

        async def answer() -> None:
            assert told(await ends.hear()) == b""
            ends.codec.accept(1)
            ends.say()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            live = live_connection()
            await outbound._ask(live, PEER, REQUEST, sock)  # type: ignore[arg-type]
        assert not live.spoke_early
    app.close()
    sock.close()
