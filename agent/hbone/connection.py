"""
HBONE without the network: HTTP/2 connections that carry CONNECT tunnels, nothing else.

Theory of operation. The owner reads bytes from TLS and gives them to `receive`, which
answers with events; it writes what `take_output` returns. DATA does not pass through
the codec: to send, write

    take_output() + data_header(stream, n) + n bytes of payload

in one go, for what is queued (the 200 that opens the tunnel, say) must precede the
data; what arrives is a view into the bytes that came. So each byte is copied by the
kernel and by TLS, and not here. Received bytes count against two windows until
`consumed` returns their credit.

Every rule that a peer can break ends in the error that RFC 9113 names or at a limit
(`limits`). `receive` raises ProtocolError once the connection is beyond repair; the
GOAWAY that says so is in the output already. The owner should `ping` every few
seconds: the answers show that the peer lives, and they renew its limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.hbone import frames
from agent.hbone.events import (
    Answered,
    ConnectRequested,
    DataReceived,
    Event,
    GoAwayReceived,
    MalformedRequest,
    PongReceived,
    SettingsReceived,
    StreamEnded,
    StreamReset,
    WindowOpened,
)
from agent.hbone.frames import ErrorCode, FrameType, ProtocolError
from agent.hbone.headers import (
    ConnectRequest,
    InvalidHeader,
    list_bytes,
    printable_reason,
    request_fields,
    response_fields,
)
from agent.hbone.inbound import Inbound
from agent.hbone.link import FAREWELL, Link
from agent.hbone.settings import DEFAULT, Role, Settings
from agent.hbone.stream import (
    ConnectionDraining,
    Phase,
    StreamClosed,
    TooManyStreams,
)

# As ztunnel's pool: beyond this, a client opens another connection.
MAX_CLIENT_STREAMS: Final = 100

__all__ = [
    "Answered",
    "ConnectRequest",
    "ConnectRequested",
    "Connection",
    "ConnectionDraining",
    "DataReceived",
    "ErrorCode",
    "Event",
    "GoAwayReceived",
    "InvalidHeader",
    "MalformedRequest",
    "PongReceived",
    "ProtocolError",
    "Role",
    "Settings",
    "SettingsReceived",
    "StreamClosed",
    "StreamEnded",
    "StreamReset",
    "TooManyStreams",
    "WindowOpened",
]


class Connection:
    """One HBONE connection, either end."""

    def __init__(self, role: Role, local: Settings = DEFAULT) -> None:
        """
        Queue the preface (client), SETTINGS and the connection's window.

        Raises: ValueError for settings that we could not live up to.
        """
        self._link = Link(role, local)
        self._inbound = Inbound(self._link)

    # Both ends

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """
        What `data`, any piece of the peer's byte stream, tells.

        Raises: ProtocolError; again on every later call.
        """
        events: list[Event] = []
        view = memoryview(data)
        while True:
            more, count = self.receive_turn(view)
            events += more
            if count == len(view):
                return events
            view = view[count:]

    def receive_turn(self, view: memoryview) -> tuple[list[Event], int]:
        """
        As `receive`, of as much of `view` as makes the work of one turn (TURN_COST).

        Returns: the events, and how many bytes were taken in: one at least. The rest is
        to come again, first. Raises: ProtocolError; again on every later call.
        """
        link = self._link
        if link.failure is not None:
            raise link.failure
        try:
            return self._inbound.receive(view)
        except ProtocolError as error:
            link.fail(error)
            raise

    @property
    def has_output(self) -> bool:
        """Whether `take_output` would return anything."""
        return bool(self._link.output)

    def take_output(self) -> bytes:
        """Frames to write, without DATA; empty when there are none."""
        output = self._link.output
        if not output:
            return b""
        whole = b"".join(output)
        output.clear()
        return whole

    def sendable(self, stream_id: int) -> int:
        """
        How long a DATA frame may be now; 0 also for a stream that cannot send.

        A client may send before it has its answer (RFC 9113 section 8.5: after its
        HEADERS); where the answer is no, those bytes go nowhere.
        """
        link = self._link
        stream = link.streams.live.get(stream_id)
        if stream is None or not stream.sends or not link.may_send(stream):
            return 0
        room = min(stream.send.available, link.send.available, link.peer.max_frame_size)
        return room if room > 0 else 0

    def data_header(self, stream_id: int, length: int, *, end: bool = False) -> bytes:
        """
        The nine bytes to write before `length` bytes of payload; `end` closes our half.

        Raises: StreamClosed; ValueError for more than `sendable`, or for nothing.
        """
        link = self._link
        stream = link.sending(stream_id)
        sendable = self.sendable(stream_id)
        if not 0 <= length <= sendable or not (length or end):
            raise ValueError(
                f"stream {stream_id}: DATA of {length} bytes, {sendable} sendable"
            )
        stream.send.take(length)
        link.send.take(length)
        link.strain.data_sent()
        flags = frames.END_STREAM if end else 0
        if end:
            link.end_local(stream)
        return frames.frame_header(length, FrameType.DATA, flags, stream_id)

    def end_stream(self, stream_id: int) -> None:
        """Close our half; the peer's goes on. Raises: StreamClosed."""
        self._link.end_local(self._link.sending(stream_id))
        self._link.output.append(
            frames.frame(FrameType.DATA, frames.END_STREAM, stream_id)
        )

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """
        End both halves at once; nothing to do for a stream that is gone.

        What was received and not consumed is settled: `consumed` need not follow.
        """
        link = self._link
        if stream := link.streams.live.get(stream_id):
            link.reset(stream, code)
        elif held := link.streams.settling.get(stream_id):
            link.settle(stream_id, held)

    def consumed(self, stream_id: int, length: int) -> None:
        """
        The application took `length` bytes that a DataReceived brought it.

        Owed also after both halves have ended in order; after a reset it is ignored.

        Raises: ValueError for more than was received.
        """
        link = self._link
        if stream := link.streams.live.get(stream_id):
            link.credit_stream(stream, length)
            link.credit_connection(length)
        elif stream_id in link.streams.settling:
            link.settle(stream_id, length)

    def ping(self, payload: bytes) -> None:
        """
        Ask for a PongReceived with this payload.

        Raises: ValueError unless it has eight bytes; `FAREWELL` is taken.
        """
        if payload == FAREWELL:
            raise ValueError(f"{FAREWELL!r} is the payload of our own PING")
        if self._link.failure is None:
            self._link.output.append(frames.ping(payload))
            self._link.pings.add(payload)

    def goaway(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """
        Take no new streams; those there are go on.

        A server that leaves in peace says it twice (RFC 9113 section 6.8): first that
        it will go, and once the answer to a PING shows that the client knows, which
        stream was the last. Streams that were under way meanwhile are served. A
        second call does not wait for that answer.
        """
        link = self._link
        if link.failure is not None or link.last_accepted is not None:
            return
        peaceful = link.role is Role.SERVER and code is ErrorCode.NO_ERROR
        if peaceful and not link.farewell_pending:
            link.queue_first_goaway()
        else:
            link.queue_final_goaway(code)

    @property
    def open_streams(self) -> int:
        return len(self._link.streams.live)

    @property
    def draining(self) -> bool:
        """No new streams: a GOAWAY was sent or received, or the connection failed."""
        return self._link.draining

    @property
    def farewell_said(self) -> bool:
        """Draining, and the peer knows which stream was the last that we served."""
        return self._link.draining and not self._link.farewell_pending

    # The client

    def open_stream(self, request: ConnectRequest) -> int:
        """
        Ask for a tunnel; the stream's number.

        Raises: ConnectionDraining, TooManyStreams, InvalidHeader.
        """
        link = self._link
        assert link.role is Role.CLIENT, "only a client opens streams"
        stream_id = link.streams.next_id()
        if link.draining or stream_id > frames.MAX_STREAM_ID:
            raise ConnectionDraining("the connection takes no new streams")
        if not self.available_streams:
            raise TooManyStreams(f"{self.open_streams} streams are open, no more fit")
        fields = request_fields(request)
        limit, size = link.peer.max_header_list_size, list_bytes(fields)
        if limit is not None and size > limit:
            raise InvalidHeader(f"a request of {size} bytes, the peer takes {limit}")
        link.queue_headers(stream_id, fields, ends_stream=False)
        link.new_stream(stream_id)
        return stream_id

    @property
    def available_streams(self) -> int:
        """How many more streams `open_stream` would give now; 0 at a server."""
        link = self._link
        if link.draining or link.role is Role.SERVER:
            return 0
        theirs = link.peer.max_concurrent_streams
        limit = (
            MAX_CLIENT_STREAMS if theirs is None else min(MAX_CLIENT_STREAMS, theirs)
        )
        return max(0, limit - self.open_streams)

    # The server

    def accept(self, stream_id: int, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Answer 200: bytes flow. Raises: StreamClosed, InvalidHeader."""
        stream = self._link.unanswered(stream_id)
        if stream is None:
            raise StreamClosed(f"stream {stream_id} is gone")
        if stream.phase is Phase.MALFORMED:
            raise ValueError(f"stream {stream_id}: a malformed request is refused")
        fields = response_fields(200, headers)
        self._link.queue_headers(stream_id, fields, ends_stream=False)
        stream.phase = Phase.CONNECTED
        self._link.strain.stream_answered()

    def refuse(self, stream_id: int, status: int, reason: str = "") -> None:
        """
        Answer with an error `status`; `reason`, made printable, goes along.

        Nothing to do for a stream that is gone. Raises: ValueError unless `status` is
        400 to 599.
        """
        if not 400 <= status <= 599:
            raise ValueError(f"status {status} refuses nothing")
        stream = self._link.unanswered(stream_id)
        if stream is None:
            return
        if stream.phase is Phase.ASKED:
            self._link.strain.stream_answered()
        legible = printable_reason(reason)
        fields = response_fields(status, [("reason", legible)] if legible else ())
        self._link.queue_headers(stream_id, fields, ends_stream=True)
        if stream.receives:
            # RFC 9113 section 8.1: the answer is complete, the rest is not wanted.
            self._link.reset(stream, ErrorCode.NO_ERROR)
        else:
            self._link.end_local(stream)
