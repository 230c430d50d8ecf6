"""
Frames from the peer: what they change and what they tell (RFC 9113 section 6).

Each handler does what its frame says or raises: ProtocolError ends the connection,
StreamError one stream.
"""

from __future__ import annotations

from agent.hbone import frames, settings
from agent.hbone.arrivals import DataArrivals
from agent.hbone.compression import HeaderDecoder
from agent.hbone.events import (
    Event,
    GoAwayReceived,
    PongReceived,
    SettingsReceived,
    StreamReset,
    WindowOpened,
)
from agent.hbone.flow import FlowControlViolated, SendWindow
from agent.hbone.frames import (
    HEADER_BYTES,
    ErrorCode,
    FrameType,
    ProtocolError,
    StreamError,
)
from agent.hbone.limits import (
    HEADERS_COST,
    STREAMS_RESIZED_PER_IDLE_FRAME,
    TURN_COST,
)
from agent.hbone.link import FAREWELL, Link
from agent.hbone.messages import Messages
from agent.hbone.reader import DataPiece, Frame, FrameReader
from agent.hbone.settings import DEFAULT_HEADER_LIST_BYTES, Role
from agent.hbone.stream import Ending, Phase

_ABOUT_THE_CONNECTION = frozenset(
    {FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY}
)
_BLOCK = frozenset({FrameType.HEADERS, FrameType.CONTINUATION})


class Inbound:
    """The receiving half of a connection."""

    def __init__(self, link: Link) -> None:
        list_bytes = link.local.max_header_list_size or DEFAULT_HEADER_LIST_BYTES
        max_block_bytes = frames.MIN_MAX_FRAME_BYTES + list_bytes
        self._link = link
        self._decoder = HeaderDecoder(list_bytes)
        self._messages = Messages(link, self._decoder, max_block_bytes)
        self._arrivals = DataArrivals(link)
        self._reader = FrameReader(link.local.max_frame_size, max_block_bytes)
        self._preface_left = frames.PREFACE if link.role is Role.SERVER else b""
        self._settings_received = False
        self._settings_acked = False
        self._last_goaway = frames.MAX_STREAM_ID
        self._handlers = {
            int(FrameType.HEADERS): self._messages.headers,
            int(FrameType.CONTINUATION): self._messages.continuation,
            int(FrameType.RST_STREAM): self._rst_stream,
            int(FrameType.SETTINGS): self._settings,
            int(FrameType.PUSH_PROMISE): self._push_promise,
            int(FrameType.PING): self._ping,
            int(FrameType.GOAWAY): self._goaway,
            int(FrameType.WINDOW_UPDATE): self._window_update,
        }

    def receive(self, view: memoryview) -> tuple[list[Event], int]:
        """
        What the start of `view` says, and how many bytes that were: all, or as many
        as make TURN_COST of work. Raises: ProtocolError.
        """
        events: list[Event] = []
        rest = self._without_preface(view)
        cost, position = self._whole_data(rest, events)
        start = len(view) - len(rest) + position
        if cost >= TURN_COST:
            return events, start
        for piece in self._reader.read(view[start:]):
            try:
                if isinstance(piece, DataPiece):
                    self._check_turn(FrameType.DATA)
                    self._arrivals.receive(piece, events)
                else:
                    self._frame(piece, events)
            except StreamError as error:
                self._stream_failed(error, events)
            cost += self._cost_of(piece)
            if cost >= TURN_COST:
                return events, start + self._reader.position
        return events, len(view)

    def _whole_data(self, view: memoryview, events: list[Event]) -> tuple[int, int]:
        """
        Take in whole DATA frames as long as there is nothing else.

        Returns: what they cost, and where they end. Raises: ProtocolError.
        """
        cost = position = 0
        if self._messages.block is not None or not self._settings_received:
            return cost, position  # not its turn, which `receive` says
        while cost < TURN_COST:
            piece = self._reader.whole_data(view, position)
            if piece is None:
                break
            cost += 1
            position += HEADER_BYTES + len(piece.payload)
            try:
                self._arrivals.receive(piece, events)
            except StreamError as error:
                self._stream_failed(error, events)
        return cost, position

    def _cost_of(self, piece: Frame | DataPiece) -> int:
        """In plain frames: a header block has HPACK, and a task for its stream."""
        if isinstance(piece, DataPiece):
            return 1
        if piece.kind in _BLOCK:
            return HEADERS_COST
        if piece.kind == FrameType.SETTINGS:
            return 1 + len(self._link.streams.live) // STREAMS_RESIZED_PER_IDLE_FRAME
        return 1

    def _without_preface(self, view: memoryview) -> memoryview:
        """Section 3.4: a client's first bytes; wrong ones are known at once."""
        left = self._preface_left
        if not left:
            return view
        begins = bytes(view[: len(left)])
        if not left.startswith(begins):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 preface")
        self._preface_left = left[len(begins) :]
        return view[len(begins) :]

    def _check_turn(self, kind: int) -> None:
        """Only SETTINGS may come first, only CONTINUATION inside a header block."""
        if self._messages.block is not None and kind != FrameType.CONTINUATION:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, f"frame type {kind} inside a header block"
            )
        if not self._settings_received and kind != FrameType.SETTINGS:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, f"frame type {kind} before SETTINGS"
            )

    def _stream_failed(self, error: StreamError, events: list[Event]) -> None:
        """Section 5.4.2: RST_STREAM, and the rest of the connection goes on."""
        # A peer can make us send resets as well as send them itself (CVE-2025-8671).
        self._link.strain.abandoned_stream()
        stream = self._link.streams.live.get(error.stream_id)
        if stream is None:
            self._link.output.append(frames.rst_stream(error.stream_id, error.code))
            self._link.streams.remember(error.stream_id, Ending.RESET_BY_US)
            return
        self._link.reset(stream, error.code)
        events.append(StreamReset(error.stream_id, error.code))

    def _frame(self, frame: Frame, events: list[Event]) -> None:
        self._check_turn(frame.kind)
        if frame.kind in _ABOUT_THE_CONNECTION and frame.stream_id:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR,
                f"{FrameType(frame.kind).name} on stream {frame.stream_id}",
            )
        handler = self._handlers.get(frame.kind)
        if handler is not None:
            handler(frame, events)
            return
        # PRIORITY says nothing any more (section 5.3.2); unknown types MUST be
        # ignored (section 5.5).
        if frame.kind == FrameType.PRIORITY and not frame.stream_id:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._link.strain.idle_frame()

    def _settings(self, frame: Frame, events: list[Event]) -> None:
        self._link.strain.idle_frame()
        if frame.flags & frames.ACK:
            self._settings_ack(frame)
            return
        self._settings_received = True
        link = self._link
        before = link.peer
        sender = Role.SERVER if link.role is Role.CLIENT else Role.CLIENT
        link.peer = settings.apply(before, frame.payload, sender)
        delta = link.peer.initial_window_size - before.initial_window_size
        if delta:
            self._resize_windows(delta)
        link.output.append(settings.SETTINGS_ACK)
        events.append(SettingsReceived())
        if delta > 0:
            events.append(WindowOpened(None))

    def _resize_windows(self, delta: int) -> None:
        """Section 6.9.2. It costs as much as there are streams, and counts as such."""
        live = self._link.streams.live
        self._link.strain.idle_frame(len(live) // STREAMS_RESIZED_PER_IDLE_FRAME)
        for stream in live.values():
            self._grow(stream.send, delta)

    def _settings_ack(self, frame: Frame) -> None:
        if frame.payload:
            raise ProtocolError(
                ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS acknowledgement is empty"
            )
        if self._settings_acked or not self._settings_received:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, "a SETTINGS acknowledgement out of turn"
            )
        self._settings_acked = True
        self._decoder.allow_table(self._link.local.header_table_size)

    def _grow(self, window: SendWindow, increment: int) -> None:
        """A fault in a window that concerns the whole connection (6.9.1, 6.9.2)."""
        try:
            window.grow(increment)
        except FlowControlViolated as error:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, str(error)) from error

    def _push_promise(self, _frame: Frame, _events: list[Event]) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE: push is off")

    def _ping(self, frame: Frame, events: list[Event]) -> None:
        link = self._link
        if not frame.flags & frames.ACK:
            link.strain.idle_frame()
            link.output.append(frames.ping(frame.payload, ack=True))
        elif frame.payload not in link.pings:
            link.strain.idle_frame()
        else:
            link.pings.remove(frame.payload)
            link.strain.heartbeat()
            if frame.payload != FAREWELL:
                events.append(PongReceived(frame.payload))
            elif link.farewell_pending:
                link.queue_final_goaway(ErrorCode.NO_ERROR)

    def _goaway(self, frame: Frame, events: list[Event]) -> None:
        link = self._link
        link.strain.idle_frame()
        last, code, debug = frames.parse_goaway(frame.payload)
        if last > self._last_goaway:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, f"GOAWAY raises its last stream to {last}"
            )
        self._last_goaway = last
        events.append(GoAwayReceived(last, code, debug))
        if link.role is Role.SERVER:
            return  # It speaks of streams that we would open: none.
        link.draining = True
        for stream in [s for s in link.streams.live.values() if s.id > last]:
            link.drop(stream, Ending.RESET_BY_US)
            events.append(StreamReset(stream.id, ErrorCode.REFUSED_STREAM))

    def _rst_stream(self, frame: Frame, events: list[Event]) -> None:
        link = self._link
        link.refuse_idle(frame.stream_id, "RST_STREAM")
        stream = link.streams.live.get(frame.stream_id)
        if stream is None:
            link.strain.idle_frame()  # It crossed with the end of its stream.
            return
        if link.role is Role.SERVER and stream.phase is not Phase.CONNECTED:
            link.strain.abandoned_stream()
        link.drop(stream, Ending.RESET_BY_PEER)
        events.append(StreamReset(stream.id, frames.parse_error_code(frame.payload)))

    def _window_update(self, frame: Frame, events: list[Event]) -> None:
        link = self._link
        link.strain.idle_frame()
        increment = frames.parse_u31(frame.payload)
        if frame.stream_id:
            self._stream_window_update(frame.stream_id, increment, events)
            return
        if not increment:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        self._grow(link.send, increment)
        events.append(WindowOpened(None))

    def _stream_window_update(
        self, stream_id: int, increment: int, events: list[Event]
    ) -> None:
        self._link.refuse_idle(stream_id, "WINDOW_UPDATE")
        stream = self._link.streams.live.get(stream_id)
        if stream is None:
            return  # It crossed with the end of its stream.
        if not increment:
            raise StreamError(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        try:
            stream.send.grow(increment)
        except FlowControlViolated as error:
            raise StreamError(
                stream_id, ErrorCode.FLOW_CONTROL_ERROR, str(error)
            ) from error
        events.append(WindowOpened(stream_id))
