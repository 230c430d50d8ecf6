"""A relay bears what the kernel may say."""

from __future__ import annotations

import socket

import trio

from agent.proxy.relay import relay
from agent.proxy.session import Traffic
from tests.unit.proxy.joined import app_pair, data_path


class _NoMemory(socket.socket):
    """Writable, yet `send` says EAGAIN: so it is when the kernel's memory is short."""

    refusals = 3

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        return super().send(data, flags)


async def test_writable_but_not_yet() -> None:
    """A socket that is told writable and takes nothing is asked again, not given up."""
    client, near = app_pair()
    server, far = app_pair()
    busy = _NoMemory(fileno=far.detach())
    async with data_path() as path, trio.open_nursery() as nursery:
        nursery.start_soon(relay, near, busy, Traffic(), path.reactor)
        await client.send_all(b"hello")
        await client.send_eof()
        with trio.fail_after(2):
            assert b"".join([piece async for piece in server]) == b"hello"
        await server.aclose()
    assert not busy.refusals
    near.close()
    busy.close()
    await client.aclose()
