"""KeyUpdates (RFC 8446 section 4.6.3): legal, without payload, and not for ever."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

import pytest
import trio

from agent.proxy.transport import (
    MAX_EMPTY_RECORDS,
    RECORD_BYTES,
    Transport,
    TransportFailed,
)
from tests.lab.key_update import NOT_REQUESTED, REQUESTED, send_key_update
from tests.unit.proxy.joined import handshake, joined, receive

READ = memoryview(bytearray(4 * RECORD_BYTES))


async def test_a_flood_ends_the_connection() -> None:
    client, server = await handshake()
    for _ in range(4 * MAX_EMPTY_RECORDS):
        send_key_update(client.tls, NOT_REQUESTED)
    reads = itertools.count()
    with pytest.raises(TransportFailed, match="without payload"):
        await read_in_vain(server, reads)
    assert MAX_EMPTY_RECORDS <= next(reads) <= 2 * MAX_EMPTY_RECORDS
    close(client, server)


async def read_in_vain(transport: Transport, reads: Iterator[int]) -> None:
    while True:
        await trio.lowlevel.wait_readable(transport.tls)
        assert transport.receive_now(READ) is None
        next(reads)


async def test_payload_between_them_is_taken() -> None:
    client, server = await handshake()
    for number in range(4 * MAX_EMPTY_RECORDS):
        send_key_update(client.tls, NOT_REQUESTED)
        client.send_now(memoryview(b"%d" % number))
        assert await receive(server, READ)
    close(client, server)


async def test_a_record_in_pieces_is_no_record_without_payload() -> None:
    """A slow path brings a record byte by byte, and each read of one is in vain."""
    client, server = await handshake()
    client_wire, server_wire = rewired(client), rewired(server)
    payload = os.urandom(500)
    assert client.send_now(memoryview(payload)) == len(payload)
    whole = client_wire.recv(1 << 16)
    for at in range(len(whole) - 1):
        server_wire.send(whole[at : at + 1])
        assert server.receive_now(READ) is None
    server_wire.send(whole[-1:])
    assert server.receive_now(READ) == len(payload)
    close(client, server, client_wire, server_wire)


async def test_one_that_wants_an_answer_while_the_socket_is_full() -> None:
    """The answer waits until the socket takes it; nothing breaks meanwhile."""
    client, server = await handshake()
    client_wire, server_wire = rewired(client), rewired(server)
    fill(server)
    send_key_update(client.tls, REQUESTED)
    server_wire.send(client_wire.recv(1 << 16))
    assert server.receive_now(READ) is None
    answer = memoryview(b"answer")
    assert server.send_now(answer) == 0  # the KeyUpdate goes before it
    assert client.send_now(memoryview(b"hello")) == 5
    server_wire.send(client_wire.recv(1 << 16))
    assert server.receive_now(READ) is None
    assert is_blocked(server)
    drain(server_wire)
    assert server.receive_now(READ) == 5
    assert not is_blocked(server)
    assert server.send_now(answer) == len(answer)
    client_wire.send(server_wire.recv(1 << 16))
    assert [client.receive_now(READ) for _ in range(2)] == [None, len(answer)]
    close(client, server, client_wire, server_wire)


async def test_a_tunnel_reads_on_when_the_answer_has_gone() -> None:
    """Its socket is watched for room first, and for bytes again afterwards."""
    async with joined() as ends:
        near, far = await ends.connect()
        transport = ends.server.transport
        receive_now, reads = transport.receive_now, 0

        def must_write_first(buffer: memoryview) -> int | None:
            nonlocal reads
            reads += 1
            if reads > 1:
                return receive_now(buffer)
            transport.must_write = True
            return None

        transport.receive_now = must_write_first  # type: ignore[method-assign]
        for said in (b"hello", b"again"):
            await near.send_all(said)
            with trio.fail_after(5):
                assert await far.receive_some() == said
        assert not transport.must_write


def is_blocked(transport: Transport) -> bool:
    """Whether it must write before it reads."""
    return transport.must_write


def rewired(transport: Transport) -> socket.socket:
    """Put a pair of local sockets under a connection; the other end of it."""
    wire, below = socket.socketpair()
    with below:
        below.setblocking(False)
        wire.setblocking(False)
        os.dup2(below.fileno(), transport.tls.fileno())
    return wire


def fill(transport: Transport) -> None:
    """Make its socket take nothing more, without a record of its own."""
    with (
        contextlib.suppress(BlockingIOError),
        socket.socket(fileno=os.dup(transport.tls.fileno())) as below,
    ):
        while True:
            below.send(b"x")


def drain(wire: socket.socket) -> None:
    """Take out what `fill` put in."""
    with contextlib.suppress(BlockingIOError):
        while wire.recv(1 << 16):
            pass


def close(*things: Transport | socket.socket) -> None:
    for each in things:
        (each.tls if isinstance(each, Transport) else each).close()
