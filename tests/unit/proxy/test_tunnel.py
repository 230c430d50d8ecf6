"""A tunnel keeps what TCP promises: every byte, half-close, resets, back-pressure."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest
import trio

from agent.hbone.connection import ConnectRequest
from agent.proxy.tunnel import TunnelLost
from tests.unit.identity.parts import API, BATCH
from tests.unit.proxy.joined import Joined, joined


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def settle(ends: Joined, count: int) -> None:
    """Wait until `count` relays have ended."""
    with trio.fail_after(5):
        for _ in range(count):
            await ends.ended.acquire()


async def test_every_byte_both_ways_at_once() -> None:
    """Three megabytes each way, larger than the stream window, arrive intact."""
    up, down = os.urandom(3 << 20), os.urandom(3 << 20)
    got: dict[str, bytes] = {}

    async def send(stream: trio.SocketStream, data: bytes) -> None:
        await stream.send_all(data)
        await stream.send_eof()

    async def take(name: str, stream: trio.SocketStream) -> None:
        got[name] = await read_all(stream)

    async with joined() as ends:
        client, server = await ends.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client, up)
            nursery.start_soon(send, server, down)
            nursery.start_soon(take, "client", client)
            nursery.start_soon(take, "server", server)
        await settle(ends, 2)

    assert got["server"] == up
    assert got["client"] == down
    assert sorted(ends.outcomes) == ["client: closed", "server: closed"]
    assert {(t.sent, t.received) for t in ends.traffic} == {(len(up), len(down))}


async def test_half_close() -> None:
    """A client that has finished writing still reads the whole answer."""
    async with joined() as ends:
        client, server = await ends.connect()
        await client.send_all(b"question")
        await client.send_eof()
        assert await read_all(server) == b"question"
        await server.send_all(b"answer")
        await server.send_eof()
        assert await read_all(client) == b"answer"
        await settle(ends, 2)
        assert ends.client.streams == ends.server.streams == 0


async def test_a_reset_stays_a_reset() -> None:
    """A server that resets is seen as ECONNRESET by the client, not as an end."""
    async with joined() as ends:
        client, server = await ends.connect()
        await client.send_all(b"x")
        assert await server.receive_some(1) == b"x"
        server.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        await server.aclose()

        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive_some(1)
        await settle(ends, 2)

    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ECONNRESET
    assert any("reset by the far end (CONNECT_ERROR)" in o for o in ends.outcomes)


async def test_a_slow_reader_stops_the_writer_and_nobody_else() -> None:
    """A reader that does not read holds little memory, and a neighbour goes on."""
    async with joined() as ends:
        client, server = await ends.connect()
        written = 0
        with trio.move_on_after(0.5):
            while True:
                await client.send_all(bytes(65536))
                written += 65536
        # One stream window here, and what socket buffers on loopback take.
        assert written < 32 << 20

        neighbour, far = await ends.connect()
        await neighbour.send_all(b"hello")
        with trio.fail_after(2):
            assert await far.receive_some(5) == b"hello"
        await client.aclose()
        await server.aclose()


async def test_streams_fail_with_their_tunnel() -> None:
    """When the tunnel goes, its connections are reset and the reason is told."""
    async with joined() as ends:
        client, _ = await ends.connect()
        ends.server.shut("for the test")
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some(1)
        await settle(ends, 2)
        assert ends.outcomes
        with pytest.raises(TunnelLost):
            ends.client.open_stream(ConnectRequest("10.0.0.2:80"))


async def test_who_is_at_the_other_end() -> None:
    """Each side knows the other's identity from its certificate."""
    async with joined() as ends:
        assert ends.client.peer.spiffe_id == API
        assert ends.server.peer.spiffe_id == BATCH
        assert ends.client.remote == ends.server.local
