"""Plain relaying keeps what TCP promises: every byte, half-close, resets."""

from __future__ import annotations

import os
import socket

import pytest
import trio
import trio.testing

from agent.proxy.relay import relay
from agent.proxy.session import Traffic
from agent.proxy.share import Account
from agent.proxy.tunnel_stream import ApplicationGone
from tests.unit.proxy.joined import data_path


class Ends:
    """A client and a server with the relay's two sockets between them."""

    def __init__(self) -> None:
        client, self.near = socket.socketpair()
        server, self.far = socket.socketpair()
        for sock in (self.near, self.far):
            sock.setblocking(False)
        self.client = trio.SocketStream(trio.socket.from_stdlib_socket(client))
        self.server = trio.SocketStream(trio.socket.from_stdlib_socket(server))
        self.traffic = Traffic()
        self.failure: ApplicationGone | None = None

    async def relay(self) -> None:
        async with data_path() as path:
            try:
                await relay(self.near, self.far, self.traffic, path.reactor, Account())
            except ApplicationGone as error:
                self.failure = error

    async def close(self) -> None:
        self.near.close()
        self.far.close()
        await self.client.aclose()
        await self.server.aclose()


@pytest.fixture
async def ends() -> object:
    made = Ends()
    yield made
    await made.close()


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_bytes_and_half_close(ends: Ends) -> None:
    """The client finishes first and still reads the whole answer."""
    asked, answer = os.urandom(300_000), os.urandom(500_000)
    received = b""

    async def serve() -> None:
        nonlocal received
        received = await read_all(ends.server)
        await ends.server.send_all(answer)
        await ends.server.send_eof()

    async def ask() -> None:
        await ends.client.send_all(asked)
        await ends.client.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.relay)
        nursery.start_soon(serve)
        nursery.start_soon(ask)
        assert await read_all(ends.client) == answer
    assert received == asked
    assert ends.traffic == Traffic(sent=len(asked), received=len(answer))


async def test_a_side_that_goes_away(ends: Ends) -> None:
    """A write to a side that closed is an error that names the side."""
    await ends.server.aclose()
    await ends.client.send_all(b"x")
    await ends.relay()
    assert "the server: " in str(ends.failure)
