"""A stream against a far end that the test speaks for: endings, resets, no credit."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import replace

import pytest
import trio
import trio.testing

from agent.errors import Refused
from agent.hbone.connection import ConnectRequest, ErrorCode
from agent.hbone.events import DataReceived, StreamEnded, StreamReset
from agent.hbone.settings import DEFAULT
from agent.proxy.reactor import Reactor, Ready
from agent.proxy.session import Meter, Traffic
from agent.proxy.share import Account
from agent.proxy.sockets import closing
from agent.proxy.tunnel_stream import ApplicationGone, PeerReset, TunnelStream
from agent.tcp import LINGER_RESET
from tests.unit.proxy.joined import Scripted, app_pair, scripted

REQUEST = ConnectRequest("10.0.0.2:80")
WINDOW = 65535  # the least that a codec of ours announces
LITTLE = replace(DEFAULT, initial_window_size=WINDOW)


class Relayed:
    """A stream of a scripted tunnel that relays for an application."""

    def __init__(self, ends: Scripted, stream: TunnelStream) -> None:
        self.stream = stream
        self.app, self.ours = app_pair()
        self.outcome: BaseException | None = None
        self.done = trio.Event()
        ends.nursery.start_soon(self._relay)

    async def _relay(self) -> None:
        meter = Meter(Traffic(), app_is_client=True)
        try:
            with closing(self.ours), self.stream.aborting():
                await self.stream.relay(self.ours, meter)
        except Exception as error:  # noqa: BLE001  (the test looks at it)
            self.outcome = error
        self.done.set()

    async def finished(self) -> BaseException | None:
        with trio.fail_after(5):
            await self.done.wait()
        self.app.socket.close()
        return self.outcome


async def opened(ends: Scripted) -> TunnelStream:
    stream = ends.tunnel.open_stream(REQUEST)
    await ends.hear()
    ends.codec.accept(stream.id)
    ends.say()
    assert await stream.answer() == 200
    return stream


async def test_a_reset_before_the_answer_is_heard() -> None:
    """Whatever its code: there will be no answer, and nobody waits for one."""
    async with scripted() as ends:
        stream = ends.tunnel.open_stream(REQUEST)
        await ends.hear()
        ends.codec.reset(stream.id, ErrorCode.CANCEL)
        ends.say()
        with trio.fail_after(5), pytest.raises(PeerReset):
            await stream.answer()


async def test_an_orderly_end_after_cancel_stays_orderly() -> None:
    """The peer wants no more (CANCEL); an application that then ends is not failed."""
    async with scripted() as ends:
        relayed = Relayed(ends, await opened(ends))
        ends.codec.reset(relayed.stream.id, ErrorCode.CANCEL)
        ends.say()
        assert await relayed.app.receive_some(1) == b""
        await relayed.app.send_eof()
        assert await relayed.finished() is None


async def test_data_after_cancel_is_a_reset() -> None:
    """Bytes that nobody will take are not swallowed: their sender hears of it."""
    async with scripted() as ends:
        relayed = Relayed(ends, await opened(ends))
        ends.codec.reset(relayed.stream.id, ErrorCode.CANCEL)
        ends.say()
        assert await relayed.app.receive_some(1) == b""
        await relayed.app.send_all(b"more")
        with trio.fail_after(5):
            await relayed.done.wait()
        with pytest.raises(trio.BrokenResourceError):
            await relayed.app.send_all(b"and more")
        assert "far end has left" in str(await relayed.finished())


async def test_an_end_is_heard_without_credit() -> None:
    """A client that goes while the peer grants no window is not held for ever."""
    window = 65535  # the least that a codec of ours announces
    async with scripted(replace(DEFAULT, initial_window_size=window)) as ends:
        relayed = Relayed(ends, await opened(ends))
        await relayed.app.send_all(bytes(window))
        heard = 0
        while heard < window:  # and no credit is given for it
            for event in await ends.hear():
                assert isinstance(event, DataReceived)
                heard += len(event.data)
        await relayed.app.send_eof()
        (event,) = await ends.hear()
        assert isinstance(event, StreamEnded)
        ends.codec.end_stream(relayed.stream.id)
        ends.say()
        assert await relayed.finished() is None


async def test_what_had_arrived_outlives_the_tunnel() -> None:
    """Ended in order both ways, the tunnel closes: a slow reader still gets it all."""
    async with scripted() as ends:
        relayed = Relayed(ends, await opened(ends))
        relayed.app.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        relayed.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        await relayed.app.send_eof()
        await ends.hear()
        for _ in range(60):
            ends.say(bytes(16000), relayed.stream.id)
            await trio.lowlevel.checkpoint()
        ends.codec.end_stream(relayed.stream.id)
        ends.say()
        await trio.testing.wait_all_tasks_blocked(0.05)
        ends.far.close()
        with trio.fail_after(10):
            while not ends.tunnel.closed:  # noqa: ASYNC110
                await trio.sleep(0.01)
        got = 0
        while data := await relayed.app.receive_some(65536):
            got += len(data)
        assert got == 60 * 16000
        assert await relayed.finished() is None


async def test_a_failed_stream_gives_nothing_to_its_application() -> None:
    """From the moment of a revocation, whatever the peer has sent or still sends."""
    async with scripted() as ends:
        relayed = Relayed(ends, await opened(ends))
        relayed.stream.fail(Refused("revoked for the test"))
        ends.say(b"too late", relayed.stream.id)
        with pytest.raises(trio.BrokenResourceError):
            await relayed.app.receive_some(1)
        assert str(await relayed.finished()) == "revoked for the test"


class TestAPeerThatDoesNotRead:
    async def stuck(self, ends: Scripted) -> Relayed:
        """A relay that stands in the middle of a frame: the far end reads nothing."""
        for sock in (ends.tunnel.transport.tls, ends.far.tls):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        relayed = Relayed(ends, await opened(ends))
        with trio.move_on_after(0.3):
            while True:
                await relayed.app.send_all(bytes(65536))
        return relayed

    async def test_is_revoked_at_once(self) -> None:
        """Its relay does not wait for it, and the tunnel's bytes stay in order."""
        async with scripted() as ends:
            relayed = await self.stuck(ends)
            relayed.stream.fail(Refused("revoked for the test"))
            with trio.fail_after(1):
                assert "revoked" in str(await relayed.finished())
            # The frame that was begun is finished, then the stream is reset.
            events: list[str] = []
            with trio.fail_after(5):
                while "StreamReset" not in events:
                    events += [type(event).__name__ for event in await ends.hear()]
            assert set(events) == {"DataReceived", "StreamReset"}

    async def test_does_not_hold_a_tunnel_that_ends(self) -> None:
        """When the tunnel is over its streams are, though a frame is half sent."""
        async with scripted() as ends:
            relayed = await self.stuck(ends)
            ends.far.send_now(
                memoryview(bytes(5) + b"\x00" * 4 + bytes(9))
            )  # DATA on 0
            with trio.fail_after(2):
                assert await relayed.finished() is not None
            assert ends.tunnel.closed


class TestAPausedSocket:
    """While the peer grants no window, the application's socket is not watched."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
        """How often each descriptor's handler was called."""
        calls: Counter[int] = Counter()
        watch = Reactor.watch

        def counted(
            self: Reactor, fd: int, events: int, ready: Ready, account: Account
        ) -> None:
            def tell(mask: int) -> None:
                calls[fd] += 1
                ready(mask)

            watch(self, fd, events, tell, account)

        monkeypatch.setattr(Reactor, "watch", counted)
        return calls

    async def paused(self, ends: Scripted) -> Relayed:
        """Its whole window is used up, and more waits in the socket."""
        relayed = Relayed(ends, await opened(ends))
        await relayed.app.send_all(bytes(WINDOW + 1000))
        heard = 0
        while heard < WINDOW:
            for event in await ends.hear():
                assert isinstance(event, DataReceived)
                heard += len(event.data)
        await trio.testing.wait_all_tasks_blocked()
        return relayed

    async def test_is_left_alone(self, calls: Counter[int]) -> None:
        """Neither more bytes nor an end of them wake the worker."""
        async with scripted(LITTLE) as ends:
            relayed = await self.paused(ends)
            before = calls[relayed.ours.fileno()]
            for _ in range(5):
                await relayed.app.send_all(b"more")
                await trio.testing.wait_all_tasks_blocked()
            await relayed.app.send_eof()
            await trio.testing.wait_all_tasks_blocked()
            assert calls[relayed.ours.fileno()] - before <= 1
            relayed.app.socket.close()

    async def test_a_reset_is_noticed(self, calls: Counter[int]) -> None:
        """At once, not when the peer grants more; and the peer hears of it."""
        async with scripted(LITTLE) as ends:
            relayed = await self.paused(ends)
            descriptor = relayed.ours.fileno()
            before = calls[descriptor]
            app = relayed.app.socket
            app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            app.close()
            assert isinstance(await relayed.finished(), ApplicationGone)
            assert calls[descriptor] - before == 1
            told = await ends.hear()
            assert told == [StreamReset(relayed.stream.id, ErrorCode.CONNECT_ERROR)]

    async def test_a_hang_up_is_not_told_for_ever(self, calls: Counter[int]) -> None:
        """Both halves ended at the socket, bytes left in it: no busy loop."""
        async with scripted(LITTLE) as ends:
            relayed = await self.paused(ends)
            descriptor = relayed.ours.fileno()
            before = calls[descriptor]
            ends.codec.end_stream(relayed.stream.id)
            ends.say()
            assert await relayed.app.receive_some(1) == b""
            await relayed.app.send_eof()
            with trio.fail_after(5):  # a busy loop would never be blocked
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(50):
                    await trio.lowlevel.checkpoint()
                await trio.testing.wait_all_tasks_blocked()
            assert calls[descriptor] - before <= 2
            # With a window again, what was left and the end are passed on.
            ends.codec.consumed(relayed.stream.id, WINDOW)
            ends.say()
            told: list[object] = []
            with trio.fail_after(5):
                while StreamEnded(relayed.stream.id) not in told:
                    told += await ends.hear()
            left = [len(e.data) for e in told if isinstance(e, DataReceived)]
            assert sum(left) == 1000
            assert await relayed.finished() is None
