"""
One HBONE connection: a TLS transport, the HTTP/2 codec and the streams on it.

Theory of operation
-------------------
The reactor calls `_ready`. What the peer sent is read, fed to the codec, and each
event handed to its stream, which passes payload on at once; nobody is waited for.

Whatever is to be sent gathers in the outbox of the `Sender`, and leaves in one write
after each batch of events.

Reading never waits for sending, so two tunnels that are both full cannot wait for each
other. `run` only keeps the tunnel alive and ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from agent.addresses import SocketAddress
from agent.errors import PeerError
from agent.hbone.connection import Connection as Codec
from agent.hbone.connection import (
    ConnectionDraining,
    ConnectRequest,
    ErrorCode,
    ProtocolError,
    TooManyStreams,
)
from agent.hbone.events import (
    Answered,
    ConnectRequested,
    DataReceived,
    Event,
    GoAwayReceived,
    MalformedRequest,
    PongReceived,
    StreamEnded,
    StreamReset,
    WindowOpened,
)
from agent.identity.clock import utc_now
from agent.log import logger
from agent.proxy.bulk import BULK_BYTES, Bulk
from agent.proxy.data_path import DataPath
from agent.proxy.life import Life
from agent.proxy.limits import ProxyLimits
from agent.proxy.papers import Papers
from agent.proxy.reactor import READABLE, WRITABLE, Reactor
from agent.proxy.sender import Sender
from agent.proxy.transport import Transport, TransportFailed
from agent.proxy.tunnel_stream import TunnelStream

log = logger()

READ_BUFFER_BYTES: Final = 1 << 18
HEARTBEAT: Final = b"podlock!"
LAST_WORD: Final = b"all read"

# The buffer that every tunnel of this process reads into: what is read is handed on
# before anything can wait, so one is enough.
_READ_BUFFER: Final = memoryview(bytearray(READ_BUFFER_BYTES))

Requested = Callable[["Tunnel", TunnelStream, ConnectRequest], None]
Malformed = Callable[["Tunnel", str], None]


class TunnelLost(PeerError):
    """The tunnel under a stream is gone; the message says why."""


class Tunnel:
    """
    An open tunnel to `peer`, who proved to be `peer.spiffe_id`.

    It drains when one of the certificates under it has ended, or when it has reached
    the age that is allowed: the streams on it go on, new ones need a handshake.
    """

    def __init__(
        self,
        transport: Transport,
        codec: Codec,
        papers: Papers,
        limits: ProxyLimits,
        path: DataPath,
        on_request: Requested | None = None,
        on_malformed: Malformed | None = None,
    ) -> None:
        self.transport = transport
        self.codec = codec
        self.papers = papers
        self.peer = papers.theirs.svid
        self.account = path.accounts.of(self.peer.spiffe_id)
        """Who the work on it is for."""
        self.told_peer = papers.told()
        """Once for all connections on it."""
        self.reactor: Reactor = path.reactor
        self.local = SocketAddress.of(transport.tls.getsockname())
        self.remote = SocketAddress.of(transport.tls.getpeername())
        self.closed: str | None = None
        self.broken = False
        self.unwelcome = False
        """The peer does not take our certificate, and another one might be."""
        self.life = Life.begun(limits, papers.expire, trio.current_time())
        self._limits = limits
        self._on_request = on_request
        self._on_malformed = on_malformed
        self._streams: dict[int, TunnelStream] = {}
        self.sender = Sender(transport, codec, path, self._all_sent, self._cannot_send)
        self._descriptor = -1  # while the reactor watches it
        self._over = trio.Event()
        self._bulk = Bulk()
        self._workers_bulk = path.bulk
        self._asked_to_part = False
        self._may_part = False
        # Received, and left for the next turn: one may make only so much work.
        self._rest = memoryview(b"")
        self._unsendable: str | None = None
        """Why nothing can be sent any more, while it is still read."""
        # Windows that the bytes of this turn have opened; None is the connection's.
        self._opened: set[int | None] = set()

    @property
    def usable(self) -> bool:
        """Whether one more stream may be opened on it."""
        return (
            self.closed is None
            and self._unsendable is None
            and not self.codec.draining
            and self.codec.available_streams > 0
            and len(self._streams) < self._limits.tunnel_streams
        )

    @property
    def moves_bulk(self) -> bool:
        """Whether a stream of small messages had better take another tunnel."""
        return self._bulk.lately(trio.current_time())

    @property
    def heard_lately(self) -> bool:
        """Whether the peer was there a moment ago: it may be told bytes ahead."""
        return self.life.heard_lately(trio.current_time())

    @property
    def streams(self) -> int:
        """How many streams are on it."""
        return len(self._streams)

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """
        Serve until the peer closes, a rule is broken or `shut` is called.

        Never raises for what a peer does: `closed` tells why it ended, and every
        stream fails with TunnelLost.
        """
        try:
            if self.closed is None:
                self._descriptor = self.transport.tls.fileno()
                self.reactor.watch(
                    self._descriptor, READABLE, self._ready, self.account
                )
                self.sender.start(self._descriptor)
                self.wake()
            task_status.started()
            await self._keep_alive()
        finally:
            self._end("closed")

    def open_stream(self, request: ConnectRequest) -> TunnelStream:
        """
        Ask the peer for a connection; the answer comes by `TunnelStream.answer`.

        Raises: TunnelLost, when the tunnel closed or drains meanwhile.
        """
        if lost := self.closed or self._unsendable:
            raise TunnelLost(lost)
        try:
            stream_id = self.codec.open_stream(request)
        except (TooManyStreams, ConnectionDraining) as error:
            raise TunnelLost(str(error)) from error
        stream = TunnelStream(self, stream_id)
        self._streams[stream_id] = stream
        self.wake()
        return stream

    def forget(self, stream: TunnelStream) -> None:
        """The stream is finished on both sides, or failed."""
        self._streams.pop(stream.id, None)
        self.life.idle_since = trio.current_time()
        if self.codec.draining:
            self.wake()

    # Sending.

    def wake(self) -> None:
        """There may be something to send: after this batch."""
        self.sender.wake()

    def commit(self, stream_id: int, count: int) -> None:
        """A stream has `count` bytes of payload in the sender's space."""
        if count >= BULK_BYTES:
            self._moved_bulk(trio.current_time())
        self.sender.commit(stream_id, count)

    def _moved_bulk(self, now: float) -> None:
        self._bulk.moved(now)
        self._workers_bulk.moved(now)

    def _all_sent(self) -> None:
        if self.codec.farewell_said and not self._streams:
            self._part()

    def _cannot_send(self, error: TransportFailed | None) -> None:
        """
        Read to the end what the peer said before it left, in turns: bytes of
        applications, and the reason. What that makes us say is not sent.
        """
        self._unsendable = "internal error" if error is None else str(error)
        if error is None:
            self._break(self._unsendable)
        elif self._descriptor >= 0:
            self.reactor.again(self._descriptor)
        else:
            self._break(self._unsendable)

    # The end.

    def shut(self, reason: str, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Tell the peer GOAWAY and close now; streams on it fail."""
        if self.closed is None:
            self.codec.goaway(code)
            self._end(reason)

    def drain(self) -> None:
        """No new streams; closes when the last one ends."""
        if self.closed is None and not self.codec.draining:
            self.codec.goaway()
            self.wake()

    def end_streams(self, opened_before: float, reason: str) -> None:
        """Streams from before that time (trio's clock) fail with TunnelLost."""
        for stream in list(self._streams.values()):
            if stream.opened_at < opened_before:
                stream.fail(TunnelLost(reason))

    def _part(self) -> None:
        """
        Drained: close when the peer has read all, which its answer to a ping shows.

        What a peer says to a socket that was closed before, a WINDOW_UPDATE say, makes
        the kernel reset the connection and drop what it has not sent (RFC 2525 2.17).
        """
        if self._may_part:
            self._end("drained")
        elif not self._asked_to_part:
            self._asked_to_part = True
            self.codec.ping(LAST_WORD)
            self.wake()

    def _break(self, reason: str) -> None:
        # A peer that parted first, and did not wait for us, broke nothing.
        self.broken = self.closed is None and not self._asked_to_part
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self.closed is not None:
            return
        self.closed = reason
        self.sender.stop()
        if self._descriptor >= 0:
            self.reactor.forget(self._descriptor)
        self.transport.close()
        lost = TunnelLost(reason)
        for stream in list(self._streams.values()):
            stream.lose_tunnel(lost)
        self._streams.clear()
        self._over.set()

    # Receiving.

    def _ready(self, mask: int) -> None:
        try:
            if mask & WRITABLE:
                self.sender.flush()
            if self.closed is None and (mask & ~WRITABLE or self.transport.must_write):
                self._receive()
        except (ProtocolError, TransportFailed) as error:
            self._break(str(error))
        except Exception:  # a bug ends this tunnel, not its neighbours
            log.exception("tunnel failed by a bug", peer=str(self.remote))
            self._break("internal error")

    def _receive(self) -> None:
        """
        One turn: a read, or what an earlier one left.

        Raises: ProtocolError, TransportFailed.
        """
        view = self._rest or self._read()
        if view is None:
            return
        events, taken = self.codec.receive_turn(view)
        for event in events:
            self._dispatch(event)
            if self.closed is not None:
                return  # by what this event led to
        self._keep(view[taken:], is_kept=bool(self._rest))
        self._open_windows()
        if self.codec.has_output or self.codec.draining:
            self.wake()

    def _read(self) -> memoryview | None:
        """What the socket has now; None if that is nothing, or the end."""
        count = self.transport.receive_now(_READ_BUFFER)
        self.sender.read_when_sent(self.transport.must_write)
        if count == 0:
            self._end("closed")
        elif count is None and self._unsendable is not None:
            self._break(self._unsendable)
        if not count:
            return None
        self.life.last_heard = now = trio.current_time()
        if count >= BULK_BYTES:
            self._moved_bulk(now)
        return _READ_BUFFER[:count]

    def _keep(self, rest: memoryview, *, is_kept: bool) -> None:
        """For the next turn: what this one did not take, or what stands behind it."""
        # The buffer is everybody's; what is kept already is ours.
        self._rest = rest if is_kept else memoryview(bytes(rest))
        if self._rest or self.transport.concluded or self._unsendable is not None:
            self.reactor.again(self._descriptor)

    def _dispatch(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id, data):
                if stream := self._streams.get(stream_id):
                    stream.deliver(data)
                else:
                    self.codec.consumed(stream_id, len(data))
            case WindowOpened(stream_id):
                self._opened.add(stream_id)
            case StreamEnded() | StreamReset() | Answered():
                if stream := self._streams.get(event.stream_id):
                    stream.hear(event)
            case PongReceived() | GoAwayReceived():
                self._note(event)
            case ConnectRequested(stream_id, request):
                self._request(stream_id, request)
            case MalformedRequest(stream_id, reason):
                self.codec.refuse(stream_id, 400)
                if self._on_malformed is not None:
                    self._on_malformed(self, reason)
            case _:
                pass  # SETTINGS: hearing them was all

    def _note(self, event: PongReceived | GoAwayReceived) -> None:
        """After a GOAWAY the codec drains; what is lost by it comes as StreamReset."""
        if isinstance(event, GoAwayReceived):
            self.unwelcome = event.code is ErrorCode.INADEQUATE_SECURITY
        elif event.payload == LAST_WORD:
            self._may_part = True

    def _request(self, stream_id: int, request: ConnectRequest) -> None:
        stream = TunnelStream(self, stream_id)
        self._streams[stream_id] = stream
        if self._on_request is None:
            self.codec.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            self.forget(stream)
            return
        self._on_request(self, stream, request)

    def _open_windows(self) -> None:
        """Once a read, however many frames opened windows: streams read on."""
        if not self._opened:
            return
        opened, self._opened = self._opened, set()
        if None in opened:
            streams = list(self._streams.values())
        else:
            streams = [self._streams[id_] for id_ in opened if id_ in self._streams]
        for stream in streams:
            stream.resume()

    # Keeping it alive.

    async def _keep_alive(self) -> None:
        while self.closed is None:
            with trio.move_on_after(self._limits.ping_interval_seconds):
                await self._over.wait()
                return
            now = trio.current_time()
            if dead := self.life.is_dead(now, self.sender.stuck_since):
                self._end(dead)
                return
            if self.life.is_done(now, utc_now(), len(self._streams)):
                self.drain()
            # Always, also when there is traffic: the answer renews the peer's limits.
            self.codec.ping(HEARTBEAT)
            self.wake()
