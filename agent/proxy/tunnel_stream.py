"""
One stream of a tunnel, joined to an application's socket.

From the application to the tunnel: `relay` reads and sends, in the connection's own
task. From the tunnel to the application: the tunnel's reader calls `deliver`, which
writes at once what the socket takes; only what is left waits in `_backlog`, and a
task is started to write it. The peer gets window credit for a byte when the
application's socket has taken it, never before: so a slow reader holds at most one
stream window (1 MiB) here and slows the writer at the far end.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio

from agent.errors import PeerError, PodlockError
from agent.hbone.connection import ErrorCode, StreamClosed
from agent.hbone.events import Answered, StreamEnded, StreamReset
from agent.proxy.buffers import HEADER_BYTES, BufferPool
from agent.proxy.session import Meter, Traffic

if TYPE_CHECKING:
    from agent.proxy.tunnel import Tunnel


class PeerReset(PeerError):
    """The far end reset the connection."""


class ApplicationGone(PodlockError):
    """The application at our end reset the connection or went away."""


OnFailure = Callable[[PodlockError], None]


class TunnelStream:
    """A CONNECT stream; `Tunnel` makes it."""

    def __init__(self, tunnel: Tunnel, stream_id: int) -> None:
        self.tunnel = tunnel
        self.id = stream_id
        self._status: int | None = None
        self._failure: PodlockError | None = None
        self._news = trio.Event()
        self._app: socket.socket | None = None
        self._on_failure: OnFailure | None = None
        self._meter = Meter(Traffic(), app_is_client=True)
        # Bytes, not pieces: a peer may send a megabyte in frames of one byte.
        self._backlog = bytearray()
        self._flushing = False
        self._end_received = False
        self._end_delivered = False
        self._end_sent = False
        self._cut = False

    # What the tunnel's reader tells; none of these waits.

    def hear(self, event: Answered | StreamEnded | StreamReset) -> None:
        """The answer to our CONNECT, or the end of the peer's half."""
        match event:
            case Answered(_, status):
                self._status = status
                self._tell()
            case StreamEnded():
                self._deliver_end()
            case StreamReset(_, code):
                self._fail_by_peer(code)

    def window_opened(self) -> None:
        """The peer takes more."""
        self._tell()

    def deliver(self, data: memoryview) -> None:
        """Payload for the application; `data` is only valid during the call."""
        if self._failure is not None:
            return  # it was reset, which settles the credit
        taken = 0
        if self._app is not None and not self._backlog:
            taken = self._write_now(data)
        if taken < len(data) and self._failure is None:
            self._backlog += data[taken:]
            self._flush_soon()

    def fail(self, failure: PodlockError) -> None:
        """The stream is over; whoever relays on it is told."""
        if self._failure is None:
            self._failure = failure
            self._drop_backlog()
            self._tell()
            if self._on_failure is not None:
                self._on_failure(failure)

    def lose_tunnel(self, lost: PodlockError) -> None:
        """
        The tunnel ended. A stream that had ended in order both ways, and only has
        bytes left to give to its application, does not need it any more.
        """
        if not (self._end_sent and self._end_received):
            self.fail(lost)

    def watch(self, on_failure: OnFailure) -> None:
        """Tell when the stream fails before `relay`, which watches by itself."""
        self._on_failure = on_failure

    # What the connection's own task does.

    async def answer(self) -> int:
        """The status of our CONNECT. Raises: what the stream failed with."""
        while self._status is None:
            self._raise_failure()
            await self._news.wait()
        return self._status

    async def relay(
        self, app: socket.socket, buffers: BufferPool, meter: Meter
    ) -> None:
        """
        Carry bytes both ways until both halves have ended.

        The socket stays the caller's, to close in order or hard.

        Raises: PeerReset, TunnelLost, ApplicationGone (the peer has been told).
        """
        self._meter = meter
        with trio.CancelScope() as scope:
            self.watch(lambda _failure: scope.cancel())
            self._raise_failure()
            self._attach(app)
            try:
                await self._pump(app, buffers)
                while not self._end_delivered:
                    await self._news.wait()
            except OSError as error:
                self._lose_application(error)
        self._raise_failure()
        self.tunnel.forget(self)

    def accept(self) -> None:
        """Answer the peer's CONNECT with 200. Raises: what the stream failed with."""
        self._raise_failure()
        self.tunnel.codec.accept(self.id)
        self.tunnel.wake()

    def refuse(self, status: int) -> None:
        """Answer the peer's CONNECT with something else than 200."""
        if self._failure is None:
            with contextlib.suppress(StreamClosed):  # the peer gave up meanwhile
                self.tunnel.codec.refuse(self.id, status)
            self.tunnel.wake()
        self._drop_backlog()
        self.tunnel.forget(self)

    @contextlib.contextmanager
    def aborting(self, code: ErrorCode = ErrorCode.CONNECT_ERROR) -> Iterator[None]:
        """
        Reset the stream at the peer when the block fails.

        RFC 9113 section 8.5: a TCP error is passed on as CONNECT_ERROR.
        """
        try:
            yield
        except BaseException:
            self.abort(code)
            raise

    def abort(self, code: ErrorCode) -> None:
        """Reset the stream at the peer, for a reason of ours, if it is still there."""
        self.tunnel.codec.reset(self.id, code)
        self.tunnel.wake()
        self._drop_backlog()
        self.tunnel.forget(self)

    async def _pump(self, app: socket.socket, buffers: BufferPool) -> None:
        more = False
        while True:
            await trio.lowlevel.wait_readable(app)
            # An end needs no window, and is heard while the peer grants none.
            if not self.tunnel.codec.sendable(self.id) and _at_end(app):
                break
            room = await self._room()
            with buffers.borrow(large=more) as buffer:
                room = min(room, len(buffer) - HEADER_BYTES)
                try:
                    count = app.recv_into(buffer[HEADER_BYTES : HEADER_BYTES + room])
                except BlockingIOError:
                    continue
                if count == 0:
                    break
                more = count == room
                self._meter.from_app(count)
                await self._send(buffer, count)
        self._end_sent = True
        if not self._cut:
            self.tunnel.codec.end_stream(self.id)
            self.tunnel.wake()

    async def _send(self, buffer: memoryview, length: int) -> None:
        sent = await self.tunnel.send_data(self.id, buffer, length)
        while sent < length:  # others used the connection's window meanwhile
            await self._room()
            rest = length - sent
            sent += await self.tunnel.send_data(self.id, buffer[sent:], rest)

    async def _room(self) -> int:
        """How much may be sent, as soon as it is anything."""
        while True:
            self._raise_failure()
            if self._cut:
                raise ConnectionResetError(errno.ECONNRESET, "the far end has left")
            if room := self.tunnel.codec.sendable(self.id):
                return room
            await self._news.wait()

    def _attach(self, app: socket.socket) -> None:
        self._app = app
        if self._backlog:
            self._flush_soon()
        elif self._end_received:
            self._shut_down()

    def _write_now(self, data: memoryview) -> int:
        assert self._app is not None
        try:
            taken = self._app.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lose_application(error)
            return 0
        self._meter.to_app(taken)
        self.tunnel.codec.consumed(self.id, taken)
        return taken

    def _flush_soon(self) -> None:
        if self._app is not None and not self._flushing:
            self._flushing = True
            self.tunnel.spawn(self._flush)

    async def _flush(self) -> None:
        assert self._app is not None
        try:
            while self._backlog:
                await trio.lowlevel.wait_writable(self._app)
                with memoryview(self._backlog) as waiting:
                    taken = self._write_now(waiting)
                del self._backlog[:taken]
                self.tunnel.wake()
        except trio.ClosedResourceError:
            return  # the connection was closed under us; it has its reason
        self._flushing = False
        if self._end_received:
            self._shut_down()

    def _deliver_end(self) -> None:
        """The peer sends no more; the application hears it after the backlog."""
        self._end_received = True
        if not self._backlog:
            self._shut_down()

    def _fail_by_peer(self, code: ErrorCode) -> None:
        """
        RST_STREAM: NO_ERROR and CANCEL end the peer's half in order (as ztunnel reads
        them), any other code is a reset that the application shall see as one. Before
        there is an application, each of them means that nothing will come of it.
        """
        orderly = code in {ErrorCode.NO_ERROR, ErrorCode.CANCEL}
        if orderly and self._app is not None:
            self._cut = True
            self._deliver_end()
            self._tell()
        else:
            self.fail(PeerReset(f"reset by the far end ({code.name})"))

    def _drop_backlog(self) -> None:
        """Nobody takes these bytes any more: their credit goes back to the tunnel."""
        if self._backlog:
            self.tunnel.codec.consumed(self.id, len(self._backlog))
            self._backlog = bytearray()

    def _shut_down(self) -> None:
        if self._app is not None and not self._end_delivered:
            with contextlib.suppress(OSError):  # it may have gone; its task will see
                self._app.shutdown(socket.SHUT_WR)
            self._end_delivered = True
            self._tell()

    def _lose_application(self, error: OSError) -> None:
        if self._failure is None:
            self.abort(ErrorCode.CONNECT_ERROR)
            text = (error.strerror or str(error)).lower()
            self.fail(ApplicationGone(f"the application: {text}"))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _at_end(app: socket.socket) -> bool:
    """Whether a readable socket has nothing but the end of its stream."""
    try:
        return not app.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
