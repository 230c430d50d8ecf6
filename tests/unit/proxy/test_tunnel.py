"""A tunnel keeps what TCP promises: every byte, half-close, resets, back-pressure."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from dataclasses import replace

import pytest
import trio
import trio.testing

from agent.errors import PodlockError
from agent.hbone.connection import ConnectRequest, ErrorCode
from agent.hbone.events import DataReceived
from agent.hbone.frames import FrameType, frame
from agent.proxy.session import Meter, Traffic
from agent.proxy.sockets import closing
from agent.proxy.transport import Transport
from agent.proxy.tunnel import Tunnel, TunnelLost
from agent.proxy.tunnel_stream import TunnelStream
from agent.tcp import tune
from tests.unit.identity.parts import API, BATCH
from tests.unit.proxy.joined import (
    LIMITS,
    Joined,
    Scripted,
    joined,
    scripted,
    tcp_pair,
)

REQUEST = ConnectRequest("10.0.0.2:80")


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


def shrink(*transports: Transport) -> None:
    """Small socket buffers, so that a far end that does not read is soon noticed."""
    for transport in transports:
        tune(transport.tls)  # or Nagle's delay, which is real time
        transport.tls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        transport.tls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)


async def carried(ends: Scripted) -> tuple[TunnelStream, socket.socket]:
    """A stream that relays, and the application's socket."""
    stream = ends.tunnel.open_stream(REQUEST)
    await ends.hear()
    ends.codec.accept(stream.id)
    ends.say()
    assert await stream.answer() == 200
    app, ours = tcp_pair()

    async def relay() -> None:
        with contextlib.suppress(PodlockError), closing(ours), stream.aborting():
            await stream.relay(ours, Meter(Traffic(), app_is_client=True))

    ends.nursery.start_soon(relay)
    return stream, app


async def send_until_held(app: socket.socket) -> int:
    """Bytes until nobody takes any more; how many they were."""
    sent = 0
    with trio.fail_after(5):
        while True:
            try:
                sent += app.send(bytes(65536))
            except BlockingIOError:
                await trio.testing.wait_all_tasks_blocked()
                try:
                    sent += app.send(bytes(65536))
                except BlockingIOError:
                    return sent


def hear_now(ends: Scripted) -> int:
    """Read what is at the far end now; how many bytes of payload it was."""
    buffer, got = memoryview(bytearray(1 << 18)), 0
    while (count := ends.far.receive_now(buffer)) is not None:
        for event in ends.codec.receive(buffer[:count]):
            if isinstance(event, DataReceived):
                got += len(event.data)
                ends.codec.consumed(event.stream_id, len(event.data))
    return got


class TestSending:
    async def test_goes_on_after_it_was_held(self) -> None:
        """When the far end reads again, every stream that was held goes on."""
        async with scripted() as ends:
            shrink(ends.tunnel.transport, ends.far)
            apps = [(await carried(ends))[1] for _ in range(3)]
            sent = 0
            for app in apps:
                sent += await send_until_held(app)
                app.shutdown(socket.SHUT_WR)
            got = 0
            with trio.fail_after(5):
                while got < sent:
                    await trio.testing.wait_all_tasks_blocked()
                    got += hear_now(ends)
                    ends.say()
            assert got == sent
            for app in apps:
                app.close()

    async def test_is_not_watched_for_room_when_there_is_nothing(self) -> None:
        """A tunnel that was stuck and is not any more costs nothing while idle."""
        async with scripted() as ends:
            shrink(ends.tunnel.transport, ends.far)
            _, app = await carried(ends)
            sent = await send_until_held(app)
            got = 0
            with trio.fail_after(5):  # a busy loop would never be blocked
                while got < sent:
                    await trio.testing.wait_all_tasks_blocked()
                    got += hear_now(ends)
                    ends.say()
                await trio.testing.wait_all_tasks_blocked()
            app.close()

    async def test_tells_what_the_peer_said_before_it_left(self) -> None:
        """A failed write is the lesser reason: what was received tells the better."""
        async with scripted() as ends:
            await trio.testing.wait_all_tasks_blocked()
            ends.far.send_now(memoryview(frame(FrameType.DATA, 0, 0, b"x")))
            ends.far.tls.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            os.close(ends.far.tls.detach())
            # In the same step, so that the write finds out first.
            stream = ends.tunnel.open_stream(REQUEST)
            with pytest.raises(TunnelLost, match="before SETTINGS"):
                await stream.answer()
            assert ends.tunnel.broken

    async def test_tells_that_it_was_cut(self) -> None:
        """Where the peer said nothing, the write's own reason is told."""
        async with scripted() as ends:
            await trio.testing.wait_all_tasks_blocked()
            ends.far.tls.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            os.close(ends.far.tls.detach())
            stream = ends.tunnel.open_stream(REQUEST)
            with pytest.raises(TunnelLost, match=r"reset|pipe|cut"):
                await stream.answer()
            assert ends.tunnel.broken


class TestAPeerThatDoesNotRead:
    async def tick(self, ends: Scripted, clock: trio.testing.MockClock) -> None:
        """Ten seconds pass; the far end is heard of."""
        ends.codec.ping(b"far away")
        ends.say()
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(LIMITS.ping_interval_seconds)
        await trio.testing.wait_all_tasks_blocked()

    async def stuck(self, ends: Scripted) -> socket.socket:
        shrink(ends.tunnel.transport, ends.far)
        _, app = await carried(ends)
        await send_until_held(app)
        return app

    async def test_is_given_up(self, mock_clock: trio.testing.MockClock) -> None:
        """Though it is heard of all the time; the reason says what was wrong."""
        async with scripted() as ends:
            app = await self.stuck(ends)
            for _ in range(2):
                await self.tick(ends, mock_clock)
                assert ends.tunnel.closed is None
            await self.tick(ends, mock_clock)
            assert ends.tunnel.closed == "the peer has not read for 30 s"
            app.close()

    async def test_but_not_one_that_reads_slowly(
        self, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A byte between two looks is enough, for as long as it takes."""
        async with scripted() as ends:
            shrink(ends.tunnel.transport, ends.far)
            room = 0

            def send_now(data: memoryview) -> int:
                nonlocal room
                count = min(room, len(data))
                room -= count
                return count

            monkeypatch.setattr(ends.tunnel.transport, "send_now", send_now)
            # The real socket would tell of room all the time.
            monkeypatch.setattr(ends.tunnel.reactor, "change", lambda *_: None)
            ends.tunnel.open_stream(REQUEST)
            for _ in range(12):
                room = 1
                await self.tick(ends, mock_clock)
                assert ends.tunnel.closed is None
            assert ends.tunnel.sender._outbox  # it was never done
            for _ in range(3):
                await self.tick(ends, mock_clock)
            assert "has not read" in str(ends.tunnel.closed)

    async def test_nor_one_that_has_nothing_to_read(
        self, mock_clock: trio.testing.MockClock
    ) -> None:
        """A tunnel that stands idle, but answers, is kept."""
        async with scripted() as ends:
            for _ in range(12):
                await self.tick(ends, mock_clock)
                hear_now(ends)
                ends.say()
            assert ends.tunnel.closed is None

    async def test_a_silent_one(self, mock_clock: trio.testing.MockClock) -> None:
        """Nothing heard for longer than the limit, and nothing to send either."""
        async with scripted() as ends:
            for _ in range(3):
                assert ends.tunnel.closed is None
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(LIMITS.ping_interval_seconds)
                await trio.testing.wait_all_tasks_blocked()
            assert ends.tunnel.closed == "the peer has been silent for 30 s"


class TestAge:
    @pytest.mark.parametrize("seconds", [10.0, 25.0])
    async def test_an_old_one_is_drained(
        self, mock_clock: trio.testing.MockClock, seconds: float
    ) -> None:
        """Past its age it takes no new stream; what is under way goes on."""
        async with joined() as ends:
            ends.client.life.limits = replace(LIMITS, tunnel_max_age_seconds=seconds)
            client, _server = await ends.connect()
            await pass_time(mock_clock, ends, seconds - 5)
            assert is_usable(ends.client)
            await pass_time(mock_clock, ends, 15)
            assert not is_usable(ends.client)
            assert ends.client.closed is None
            await client.send_all(b"still here")

    async def test_old_streams_end_and_young_ones_go_on(
        self, mock_clock: trio.testing.MockClock
    ) -> None:
        """At both ends, with a reset; the reason is told where it was decided."""
        async with joined() as ends:
            old, _ = await ends.connect()
            mock_clock.jump(5)
            young, server = await ends.connect()
            ends.client.drain()
            ends.client.end_streams(trio.current_time() - 3, "tainted")
            await settle(ends, 2)
            assert sorted(ends.outcomes) == [
                "client: tainted",
                "server: reset by the far end (CONNECT_ERROR)",
            ]
            with pytest.raises((trio.BrokenResourceError, OSError)):
                await old.receive_some()
            await young.send_all(b"still here")
            assert await server.receive_some() == b"still here"

    async def test_a_peer_that_does_not_want_us(self) -> None:
        """INADEQUATE_SECURITY is about our certificate: another one may do."""
        async with scripted() as ends:
            ends.codec.goaway(ErrorCode.INADEQUATE_SECURITY)
            ends.say()
            with trio.fail_after(5):
                while not ends.tunnel.unwelcome:
                    await trio.testing.wait_all_tasks_blocked()
            assert not ends.tunnel.usable


def is_usable(tunnel: Tunnel) -> bool:
    return tunnel.usable


async def pass_time(
    clock: trio.testing.MockClock, ends: Joined, seconds: float
) -> None:
    """Let time pass in steps that leave both ends the time to answer pings."""
    step = LIMITS.ping_interval_seconds / 2
    for _ in range(int(seconds / step)):
        clock.jump(step)
        for _ in range(5):
            await trio.testing.wait_all_tasks_blocked(0.005)
