"""
One HBONE connection: a TLS transport, the HTTP/2 codec and the streams on it.

Theory of operation
-------------------
Three tasks live as long as the tunnel: `_read` takes bytes, feeds the codec and hands
each event to its stream without waiting for anybody; `_write` sends the frames that
events gave rise to (window updates, answers, pings); `_keep_alive` notices a peer
that has gone silent. The reader never sends, so two tunnels that are both full can
not wait for each other.

Payload does not pass through `_write`: the task that read it from the application
sends it itself (`send_data`), header and payload in one buffer, in turn with the other
streams (the lock is first come, first served: that is the fairness between streams).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
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
    MalformedRequest,
    StreamEnded,
    StreamReset,
    WindowOpened,
)
from agent.identity.certificate import Svid
from agent.identity.clock import utc_now
from agent.log import logger
from agent.proxy.buffers import HEADER_BYTES
from agent.proxy.limits import ProxyLimits
from agent.proxy.session import PeerCertificate
from agent.proxy.transport import Transport, TransportFailed
from agent.proxy.tunnel_stream import TunnelStream

log = logger()

READ_BUFFER_BYTES: Final = 1 << 18
# Up to this much payload is copied together with the control frames that wait, to
# leave in one record and one packet.
COALESCED_BYTES: Final = 4096
HEARTBEAT: Final = b"podlock!"

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

    It drains when `expires` has come, the end of the certificate that ends first: the
    streams on it go on, new ones need a handshake. What is left to write to an
    application when the tunnel ends is written by a task in `nursery`, which outlives
    the tunnel.
    """

    def __init__(
        self,
        transport: Transport,
        codec: Codec,
        peer: Svid,
        limits: ProxyLimits,
        nursery: trio.Nursery,
        expires: datetime,
        on_request: Requested | None = None,
        on_malformed: Malformed | None = None,
    ) -> None:
        self.transport = transport
        self.codec = codec
        self.peer = peer
        self.local = SocketAddress.of(transport.tls.getsockname())
        self.remote = SocketAddress.of(transport.tls.getpeername())
        self.closed: str | None = None
        self.broken = False
        self.idle_since = trio.current_time()
        self._limits = limits
        self._nursery = nursery
        self._expires = expires
        self._on_request = on_request
        self._on_malformed = on_malformed
        self._streams: dict[int, TunnelStream] = {}
        self._sending = trio.Lock()
        self._torn = b""
        self._output = trio.Event()
        self._last_heard = trio.current_time()
        self._sending_since: float | None = None
        self._tasks: trio.Nursery | None = None

    @property
    def usable(self) -> bool:
        """Whether one more stream may be opened on it."""
        return (
            self.closed is None
            and not self.codec.draining
            and self.codec.available_streams > 0
            and len(self._streams) < self._limits.tunnel_streams
        )

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
        reason = "closed"
        try:
            async with trio.open_nursery() as self._tasks:
                self._tasks.start_soon(self._write)
                self._tasks.start_soon(self._keep_alive)
                task_status.started()
                try:
                    await self._read()
                except (ProtocolError, TransportFailed) as error:
                    reason = str(error)
                    self.broken = self.closed is None
                except Exception:  # a bug ends this tunnel, not its neighbours
                    log.exception("tunnel failed by a bug", peer=str(self.remote))
                    reason, self.broken = "internal error", True
                finally:
                    self._end(reason)
        finally:
            self._end(reason)  # also when it never came to reading

    def open_stream(self, request: ConnectRequest) -> TunnelStream:
        """
        Ask the peer for a connection; the answer comes by `TunnelStream.answer`.

        Raises: TunnelLost, when the tunnel closed or drains meanwhile.
        """
        if self.closed is not None:
            raise TunnelLost(self.closed)
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
        self.idle_since = trio.current_time()
        if self.codec.draining:
            self.wake()

    def spawn(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run an async function, also past the tunnel's end."""
        self._nursery.start_soon(task)

    def wake(self) -> None:
        """The codec may have output."""
        if self.codec.has_output or self.codec.draining or self._torn:
            self._output.set()

    async def send_data(self, stream_id: int, buffer: memoryview, length: int) -> int:
        """
        Send what the peer takes of the payload that stands at `HEADER_BYTES` in
        `buffer`, `length` bytes, with its header in front, as one frame.

        The header is made when it is this stream's turn: what was queued before, an
        answer or a reset, has gone out by then.

        Returns: how many bytes were sent, 0 if no window is open. Raises: TunnelLost.
        """
        async with self._sending:
            count = min(length, self.codec.sendable(stream_id))
            if not count or count > COALESCED_BYTES:
                await self._send_control()
                count = min(length, self.codec.sendable(stream_id))
            if count:
                control = self.codec.take_output()
                buffer[:HEADER_BYTES] = self.codec.data_header(stream_id, count)
                frame = buffer[: HEADER_BYTES + count]
                await self._send(memoryview(control + frame) if control else frame)
        return count

    async def _send_control(self) -> None:
        if self.codec.has_output or self._torn:
            await self._send(memoryview(self.codec.take_output()))

    async def _send(self, data: memoryview) -> None:
        """
        Send bytes that belong together, holding the lock.

        Cancelled halfway, it leaves the rest in `_torn`, which goes out before anything
        else: a frame that was begun is finished, and its sender need not wait for it.
        """
        if self._torn:
            data, self._torn = memoryview(self._torn + data), b""
        sent = 0
        self._sending_since = trio.current_time()
        try:
            while sent < len(data):
                if count := self.transport.send_now(data[sent:]):
                    sent += count
                    self._sending_since = trio.current_time()
                else:
                    await self.transport.wait_writable()
        except TransportFailed as error:
            raise TunnelLost(self.closed or str(error)) from error
        except trio.Cancelled:
            self._torn = bytes(data[sent:])
            self.wake()
            raise
        self._sending_since = None

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

    def _end(self, reason: str) -> None:
        if self.closed is not None:
            return
        self.closed = reason
        self._farewell()
        self.transport.close()
        lost = TunnelLost(reason)
        for stream in list(self._streams.values()):
            stream.lose_tunnel(lost)
        self._streams.clear()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _farewell(self) -> None:
        """Send GOAWAY if that is possible without waiting or tearing a frame."""
        if self._sending.locked() or self._torn:
            return
        with contextlib.suppress(TransportFailed):
            if self.codec.has_output:
                self.transport.send_now(memoryview(self.codec.take_output()))

    async def _read(self) -> None:
        while True:
            count = await self.transport.receive_into(_READ_BUFFER)
            if count == 0:
                return
            self._last_heard = trio.current_time()
            for event in self.codec.receive(_READ_BUFFER[:count]):
                self._dispatch(event)
            self.wake()

    def _dispatch(self, event: Event) -> None:
        match event:
            case DataReceived(stream_id, data):
                if stream := self._streams.get(stream_id):
                    stream.deliver(data)
                else:
                    self.codec.consumed(stream_id, len(data))
            case WindowOpened(stream_id):
                self._open_windows(stream_id)
            case StreamEnded() | StreamReset() | Answered():
                if stream := self._streams.get(event.stream_id):
                    stream.hear(event)
            case ConnectRequested(stream_id, request):
                self._request(stream_id, request)
            case MalformedRequest(stream_id, reason):
                self.codec.refuse(stream_id, 400)
                if self._on_malformed is not None:
                    self._on_malformed(self, reason)
            case _:
                # SETTINGS, PONG: hearing them was all. GOAWAY: the codec drains, and
                # the streams that were lost by it come as StreamReset.
                pass

    def _request(self, stream_id: int, request: ConnectRequest) -> None:
        stream = TunnelStream(self, stream_id)
        self._streams[stream_id] = stream
        if self._on_request is None:
            self.codec.reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            self.forget(stream)
            return
        self._on_request(self, stream, request)

    def _open_windows(self, stream_id: int | None) -> None:
        if stream_id is None:
            for stream in self._streams.values():
                stream.window_opened()
        elif (one := self._streams.get(stream_id)) is not None:
            one.window_opened()

    async def _write(self) -> None:
        while True:
            await self._output.wait()
            self._output = trio.Event()
            try:
                async with self._sending:
                    await self._send_control()
            except TunnelLost:
                return  # the reader hears of it too, and knows the reason
            if self.codec.farewell_said and not self._streams:
                self._end("drained")
                return

    async def _keep_alive(self) -> None:
        interval = self._limits.ping_interval_seconds
        while True:
            await trio.sleep(interval)
            if dead := self._is_dead():
                self._end(dead)
                return
            if self._is_done():
                self.drain()
            # Always, also when there is traffic: the answer renews the peer's limits.
            self.codec.ping(HEARTBEAT)
            self.wake()

    def _is_done(self) -> bool:
        """Whether no new stream should come: a certificate ended, or nobody comes."""
        idle = trio.current_time() - self.idle_since
        patience = 2 * self._limits.idle_tunnel_seconds  # the client's pool is first
        return utc_now() >= self._expires or (not self._streams and idle > patience)

    def _is_dead(self) -> str | None:
        """Why the peer must be given up, if it must."""
        now, patience = trio.current_time(), self._limits.ping_timeout_seconds
        if now - self._last_heard > patience:
            return f"the peer has been silent for {now - self._last_heard:.0f} s"
        if self._sending_since and now - self._sending_since > patience:
            return f"the peer has not read for {now - self._sending_since:.0f} s"
        return None


def peer_certificate(tunnel: Tunnel) -> PeerCertificate:
    """Who is at the other end, as the status tells it."""
    svid = tunnel.peer
    return PeerCertificate(
        str(svid.spiffe_id), f"{svid.serial:x}", svid.not_after.timestamp()
    )
