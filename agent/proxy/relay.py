"""Carry bytes between two plain sockets, both ways, with half-close and resets."""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from agent.proxy.buffers import BufferPool
from agent.proxy.session import Traffic
from agent.proxy.transport import explain
from agent.proxy.tunnel_stream import ApplicationGone

Count = Callable[[int], None]


async def relay(
    client: socket.socket,
    server: socket.socket,
    traffic: Traffic,
    buffers: BufferPool,
) -> None:
    """
    Relay until both sides have finished; the sockets stay the caller's.

    Raises: ApplicationGone, when either side reset; the caller passes that on.
    """
    failures: list[ApplicationGone] = []

    def sent(count: int) -> None:
        traffic.sent += count

    def received(count: int) -> None:
        traffic.received += count

    async with trio.open_nursery() as both:

        async def one_way(
            name: str, source: socket.socket, sink: socket.socket, count: Count
        ) -> None:
            try:
                await _pump(source, sink, count, buffers)
            except OSError as error:
                failures.append(ApplicationGone(f"{name}: {explain(error)}"))
                both.cancel_scope.cancel()

        both.start_soon(one_way, "client to server", client, server, sent)
        both.start_soon(one_way, "server to client", server, client, received)
    if failures:
        raise failures[0]


async def _pump(
    source: socket.socket, sink: socket.socket, count: Count, buffers: BufferPool
) -> None:
    more = False
    while True:
        await trio.lowlevel.wait_readable(source)
        with buffers.borrow(large=more) as buffer:
            try:
                received = source.recv_into(buffer)
            except BlockingIOError:
                continue
            if received == 0:
                break
            more = received == len(buffer)
            await _send_all(sink, buffer[:received])
        count(received)
    sink.shutdown(socket.SHUT_WR)


async def _send_all(sink: socket.socket, data: memoryview) -> None:
    sent = 0
    while sent < len(data):
        try:
            sent += sink.send(data[sent:])
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sink)
