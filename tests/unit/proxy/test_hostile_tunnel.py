"""Tunnels whose peer leaves, or does not read, at the worst moment."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import cast

import pytest
import trio
import trio.testing

from agent.hbone import frames
from agent.hbone.connection import ErrorCode
from agent.hbone.limits import TURN_COST
from agent.proxy import tunnel as tunnel_module
from agent.proxy.tunnel_stream import TunnelStream
from agent.tcp import LINGER_RESET, tune
from tests.unit.proxy.joined import Scripted, joined, scripted
from tests.unit.proxy.test_tunnel_stream import REQUEST, Relayed, opened

RECORD = 16384


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


def one_record_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fills a quarter of a megabyte in life fills one record here."""
    monkeypatch.setattr(tunnel_module, "_READ_BUFFER", memoryview(bytearray(RECORD)))


def data(ends: Scripted, stream: TunnelStream, payload: bytes, *, end: bool) -> bytes:
    """What is queued at the far end, and one DATA frame."""
    header = ends.codec.data_header(stream.id, len(payload), end=end)
    return ends.codec.take_output() + header + payload


def send(ends: Scripted, out: bytes) -> None:
    tune(ends.far.tls)  # on the wire at once: a reset drops what waits to be sent
    assert ends.far.send_now(memoryview(out)) == len(out)


async def until(holds: Callable[[], bool]) -> None:
    """Let everybody run until it is so."""
    with trio.fail_after(5):
        while not holds():
            await trio.lowlevel.checkpoint()


async def received(relayed: Relayed) -> bytes:
    """All that an application gets, however its connection ends."""
    got = b""
    try:
        with trio.fail_after(5):
            async for piece in relayed.app:
                got += piece
    except trio.BrokenResourceError:
        pass  # a reset stands behind what came
    return got


async def test_what_came_before_the_peer_left_is_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer that answers in full and goes: all of it arrives, though we had to say
    something to it that it does not hear any more."""
    one_record_a_read(monkeypatch)
    async with scripted() as ends:
        relayed = Relayed(ends, await opened(ends))
        await relayed.app.send_eof()
        await ends.hear()
        await trio.testing.wait_all_tasks_blocked()
        answer = b"".join(bytes([n]) * 8000 for n in range(6))
        for start in range(0, len(answer), 8000):
            last = start + 8000 == len(answer)
            piece = answer[start : start + 8000]
            send(ends, data(ends, relayed.stream, piece, end=last))
        reset(ends.far.tls)
        ends.tunnel.codec.ping(b"are you?")
        ends.tunnel.wake()

        assert await received(relayed) == answer
        assert await relayed.finished() is None


async def test_no_bytes_out_of_order_when_all_break_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Peer and one application leave together: another application gets its bytes
    from the first one on, or none."""
    one_record_a_read(monkeypatch)
    async with scripted() as ends:
        gone = Relayed(ends, await opened(ends))
        stays = Relayed(ends, await opened(ends))
        await trio.testing.wait_all_tasks_blocked()
        first = data(ends, gone.stream, b"x" * 100, end=False)
        send(ends, first + data(ends, stays.stream, b"A" * 100, end=False))
        send(ends, data(ends, stays.stream, b"B" * 100, end=True))
        reset(ends.far.tls)
        gone.app.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        gone.app.socket.close()
        ends.tunnel.codec.ping(b"are you?")
        ends.tunnel.wake()

        assert await received(stays) == b"A" * 100 + b"B" * 100
        await stays.finished()
        await gone.finished()


@pytest.mark.parametrize("code", [ErrorCode.NO_ERROR, ErrorCode.CANCEL])
async def test_an_answer_that_is_over_before_the_relay_begins(code: ErrorCode) -> None:
    """200, all bytes, the end and "send no more" (RFC 9113 section 8.1) in one read,
    as ztunnel says it for a server that speaks first and closes: nothing is lost."""
    async with scripted() as ends:
        stream = ends.tunnel.open_stream(REQUEST)
        await ends.hear()
        ends.codec.accept(stream.id)
        out = data(ends, stream, b"banner", end=True)
        ends.codec.reset(stream.id, code)
        send(ends, out + ends.codec.take_output())
        assert await stream.answer() == 200
        relayed = Relayed(ends, stream)
        assert await received(relayed) == b"banner"
        await relayed.app.send_eof()
        assert await relayed.finished() is None


class _Counting:
    """A held stream, as far as the tunnel knows it."""

    resumed = 0

    def resume(self) -> None:
        self.resumed += 1


async def test_a_stream_is_held_once() -> None:
    """A peer that does not read but opens windows makes no queue grow."""
    async with scripted() as ends:
        tunnel, stream = ends.tunnel, _Counting()
        send_now = tunnel.transport.send_now
        tunnel.transport.send_now = lambda data: 0  # type: ignore[method-assign]  # noqa: ARG005
        tunnel.codec.ping(b"fills it")
        tunnel.sender.flush()
        for _ in range(1000):
            tunnel.sender.hold(cast(TunnelStream, stream))
        tunnel.transport.send_now = send_now  # type: ignore[method-assign]
        tunnel.sender.flush()
        assert stream.resumed == 1


@pytest.mark.parametrize("of_the_connection", [True, False])
async def test_windows_opened_in_one_turn_resume_a_stream_once(
    of_the_connection: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames are cheap to send: the work grows with the reads and the streams."""
    async with scripted() as ends:
        stream = await opened(ends)
        other = await opened(ends)
        counts = {stream: 0, other: 0}

        def resume(self: TunnelStream) -> None:
            counts[self] += 1

        monkeypatch.setattr(TunnelStream, "resume", resume)
        of = 0 if of_the_connection else stream.id
        send(ends, frames.window_update(of, 1) * TURN_COST)
        await until(lambda: counts[stream] > 0)
        assert counts == {stream: 1, other: int(of_the_connection)}


async def test_a_fault_of_ours_ends_the_tunnel_and_nothing_else() -> None:
    """A bug while sending is told to the streams; their applications do not wait."""

    def fail(data: memoryview) -> int:
        raise AssertionError("a bug")

    async with scripted() as ends:
        relayed = Relayed(ends, await opened(ends))
        ends.tunnel.transport.send_now = fail  # type: ignore[method-assign]
        await relayed.app.send_all(b"hello")
        assert await relayed.finished() is not None
        assert ends.tunnel.closed is not None


async def test_a_tunnel_that_drains_loses_nothing() -> None:
    """The last stream's bytes wait in the kernel, for the peer reads slowly; what that
    peer says meanwhile must not find a closed socket, whose reset would drop them."""
    async with joined() as ends:
        client, server = ends.client, ends.server
        client.transport.tls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        server.transport.tls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        asking, answering = await ends.connect()
        await asking.send_eof()
        assert await answering.receive_some() == b""
        server.drain()
        await until(lambda: server.codec.farewell_said)
        receive_now = client.transport.receive_now
        client.transport.receive_now = lambda buffer: None  # type: ignore[method-assign]  # noqa: ARG005
        answer = os.urandom(150_000)
        await answering.send_all(answer)
        await answering.send_eof()
        await until(lambda: not server.streams)
        client.codec.ping(b"are you?")
        client.wake()
        await trio.lowlevel.checkpoint()
        client.transport.receive_now = receive_now  # type: ignore[method-assign]

        with trio.fail_after(5):
            assert b"".join([piece async for piece in asking]) == answer
        await until(lambda: client.closed is not None and server.closed is not None)
        assert not client.broken
        assert not server.broken
