"""
One stream of a tunnel, joined to an application's socket.

Both ways run in the reactor's callbacks. From the application to the tunnel: what is
readable is received straight into the tunnel's outbox; while the peer grants no window
or does not read, the socket is not watched. From the tunnel to the application:
`deliver` writes at once what the socket takes; only what is left waits in `_backlog`
until the socket takes more. The peer gets window credit for a byte when the
application's socket has taken it, never before: so a slow reader holds at most one
stream window (1 MiB) here and slows the writer at the far end.

The task that set the connection up waits in `relay` for the end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio

from agent.errors import PeerError, PodlockError
from agent.hbone.connection import ErrorCode, StreamClosed
from agent.hbone.events import Answered, StreamEnded, StreamReset
from agent.log import logger
from agent.proxy.early import send_early, skip_early
from agent.proxy.reactor import NOTHING, READABLE, WRITABLE
from agent.proxy.session import Meter, Traffic

if TYPE_CHECKING:
    from agent.proxy.tunnel import Tunnel


class PeerReset(PeerError):
    """
    The far end reset the connection.

    `untouched`: it has done nothing about it (REFUSED_STREAM, RFC 9113 section 8.7), so
    the same may be asked again.
    """

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(f"reset by the far end ({code.name})")
        self.untouched = code is ErrorCode.REFUSED_STREAM


class ApplicationGone(PodlockError):
    """The application at our end reset the connection or went away."""


log = logger()

OnFailure = Callable[[PodlockError], None]


class TunnelStream:
    """A CONNECT stream; `Tunnel` makes it."""

    def __init__(self, tunnel: Tunnel, stream_id: int) -> None:
        self.tunnel = tunnel
        self.id = stream_id
        self.opened_at = trio.current_time()
        self._status: int | None = None
        self._failure: PodlockError | None = None
        self._news: trio.Event | None = None
        self._app: socket.socket | None = None
        self._descriptor = -1  # while the reactor watches it
        self._watched = NOTHING
        self._on_failure: OnFailure | None = None
        self._meter = Meter(Traffic(), app_is_client=True)
        # Bytes, not pieces: a peer may send a megabyte in frames of one byte.
        self._backlog = bytearray()
        self._early = 0
        self._end_received = False
        self._end_delivered = False
        self._end_sent = False
        self._cut = False

    # What the tunnel tells; none of these waits.

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

    def resume(self) -> None:
        """The peer takes more, or the tunnel does: read on."""
        if self._descriptor >= 0 and not self._end_sent:
            self._watch(self._watched | READABLE)

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
            self._unwatch()
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
        """Tell when the stream fails before `relay`, which waits for it anyway."""
        self._on_failure = on_failure

    # What the connection's own task does.

    def send_early(self, app: socket.socket) -> bool:
        """
        Send what the application has said already, ahead of the answer to our CONNECT.

        Returns: whether there was anything. `relay` skips it.
        """
        self._early = send_early(app, self.tunnel, self.id)
        return self._early > 0

    async def answer(self) -> int:
        """The status of our CONNECT. Raises: what the stream failed with."""
        while self._status is None:
            self._raise_failure()
            await self._wait()
        return self._status

    async def relay(self, app: socket.socket, meter: Meter) -> None:
        """
        Carry bytes both ways until both halves have ended.

        The socket stays the caller's, to close in order or hard.

        Raises: PeerReset, TunnelLost, ApplicationGone (the peer has been told).
        """
        self._meter = meter
        self._on_failure = None
        self._raise_failure()
        try:
            self._skip_early(app)
            self._attach(app)
            while not (self._end_sent and self._end_delivered):
                self._raise_failure()
                await self._wait()
        finally:
            self._unwatch()
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

    # The application's socket.

    def _attach(self, app: socket.socket) -> None:
        self._app = app
        self._descriptor = app.fileno()
        self._watched = READABLE | WRITABLE if self._backlog else READABLE
        self.tunnel.reactor.watch(
            self._descriptor, self._watched, self._ready, self.tunnel.account
        )
        if self._backlog:
            self._flush_backlog()
        elif self._end_received:
            self._shut_down()

    def _skip_early(self, app: socket.socket) -> None:
        """Take out of the socket what went along with the CONNECT."""
        if self._early:
            try:
                skip_early(app, self._early)
            except OSError as error:
                self._lose_application(error)
                self._raise_failure()
            self._meter.from_app(self._early)

    def _unwatch(self) -> None:
        if self._descriptor >= 0:
            self.tunnel.reactor.forget(self._descriptor)
            self._descriptor = -1

    def _watch(self, events: int) -> None:
        if self._descriptor >= 0 and events != self._watched:
            self._watched = events
            self.tunnel.reactor.change(self._descriptor, events)

    def _ready(self, mask: int) -> None:
        try:
            if mask & WRITABLE and self._backlog:
                self._flush_backlog()
            if mask & ~WRITABLE and self._descriptor >= 0:
                if self._watched & READABLE:
                    self._read()
                else:
                    self._look_for_reset()
        except OSError as error:
            self._lose_application(error)
        except Exception:  # a bug ends this connection, not its neighbours
            log.exception("connection failed by a bug", stream=self.id)
            self.abort(ErrorCode.INTERNAL_ERROR)
            self.fail(ApplicationGone("internal error"))

    def _read(self) -> None:
        """Take what is there, as much as may be sent. Raises: OSError."""
        app, tunnel = self._app, self.tunnel
        assert app is not None
        room = tunnel.codec.sendable(self.id)
        if not room:
            self._read_nothing(app)
            return
        space = tunnel.sender.space()
        if space is None:
            if self._failure is None:
                self._watch(self._watched & ~READABLE)
                tunnel.sender.hold(self)
            return
        count = 0
        try:
            count = app.recv_into(space, min(room, len(space)))
        except BlockingIOError:
            return
        finally:
            tunnel.commit(self.id, count)
        if count:
            self._meter.from_app(count)
        else:
            self._end_our_half()

    def _read_nothing(self, app: socket.socket) -> None:
        """No window. An end needs none, and is heard; data waits where it is."""
        if _at_end(app):
            self._end_our_half()
        elif self._cut:
            raise ConnectionResetError(errno.ECONNRESET, "the far end has left")
        else:
            self._watch(self._watched & ~READABLE)

    def _look_for_reset(self) -> None:
        """An event that nobody asked for: is the application gone? Raises: OSError."""
        assert self._app is not None
        if code := self._app.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))

    def _end_our_half(self) -> None:
        """The application writes no more."""
        self._end_sent = True
        self._watch(self._watched & ~READABLE)
        if not self._cut:
            self.tunnel.codec.end_stream(self.id)
            self.tunnel.wake()
        self._tell_if_over()

    def _write_now(self, data: memoryview | bytearray) -> int:
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
        if not self._watched & WRITABLE:
            self._watch(self._watched | WRITABLE)

    def _flush_backlog(self) -> None:
        with memoryview(self._backlog) as waiting:
            taken = self._write_now(waiting)
        if self._failure is not None:
            return
        del self._backlog[:taken]
        self.tunnel.wake()
        if not self._backlog:
            self._watch(self._watched & ~WRITABLE)
            if self._end_received:
                self._shut_down()

    def _deliver_end(self) -> None:
        """The peer sends no more; the application hears it after the backlog."""
        if self._failure is not None:
            return  # bytes before this end were dropped: it would be no end in order
        self._end_received = True
        if not self._backlog:
            self._shut_down()

    def _fail_by_peer(self, code: ErrorCode) -> None:
        """
        RST_STREAM: NO_ERROR and CANCEL end the peer's half in order (as ztunnel reads
        them), any other code is a reset that the application shall see as one. Before
        there is an application, each of them means that nothing will come of it; unless
        our CONNECT was answered: then the peer's bytes may all be here already.
        """
        orderly = code in {ErrorCode.NO_ERROR, ErrorCode.CANCEL}
        if orderly and (self._app is not None or self._status == 200):
            self._cut = True
            self._deliver_end()
            self.resume()  # what the application still writes goes nowhere: look
        else:
            self.fail(PeerReset(code))

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
            self._tell_if_over()

    def _lose_application(self, error: OSError) -> None:
        if self._failure is None:
            self.abort(ErrorCode.CONNECT_ERROR)
            text = (error.strerror or str(error)).lower()
            self.fail(ApplicationGone(f"the application: {text}"))

    # Telling the task.

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _wait(self) -> None:
        self._news = trio.Event()
        await self._news.wait()

    def _tell_if_over(self) -> None:
        if self._end_sent and self._end_delivered:
            self._unwatch()
            self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()


def _at_end(app: socket.socket) -> bool:
    """Whether a readable socket has nothing but the end of its stream."""
    try:
        return not app.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
