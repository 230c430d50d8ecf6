"""An accept loop ends with its listener, whenever that is closed."""

from __future__ import annotations

import socket

import trio
import trio.testing

from agent.addresses import SocketAddress
from agent.proxy.listener import accept_loop


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


async def nobody(_sock: socket.socket, _peer: SocketAddress) -> None:
    raise AssertionError("nobody connects in this test")


async def test_closed_before_it_began() -> None:
    """A pod may be released before its loops take their first step."""
    listener = listening()
    listener.close()
    async with trio.open_nursery() as nursery:
        await accept_loop(listener, nobody, nursery)


async def test_closed_while_it_waits() -> None:
    """No error, and no task left behind."""
    listener = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, nobody, nursery)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(listener)
        listener.close()


async def test_serves_whoever_comes() -> None:
    """Each connection, with its peer's address."""
    listener = listening()
    served: list[str] = []

    async def serve(sock: socket.socket, peer: SocketAddress) -> None:
        served.append(str(peer))
        sock.close()

    with (
        socket.create_connection(listener.getsockname()) as one,
        socket.create_connection(listener.getsockname()) as two,
    ):
        names = [str(SocketAddress.of(sock.getsockname())) for sock in (one, two)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, serve, nursery)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.notify_closing(listener)
            listener.close()
    assert sorted(served) == sorted(names)
