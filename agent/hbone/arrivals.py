"""
DATA from the peer: accounted for by frame, passed on by piece (RFC 9113 section 6.9).

Every byte that is counted against the connection's window comes back to it: through
`Connection.consumed` if it was passed on, at once if it was padding or dropped.
"""

from __future__ import annotations

from agent.hbone.events import DataReceived, Event, StreamEnded
from agent.hbone.flow import FlowControlViolated
from agent.hbone.frames import ErrorCode, ProtocolError, StreamError
from agent.hbone.link import Link
from agent.hbone.reader import DataPiece
from agent.hbone.settings import Role
from agent.hbone.stream import Phase, Stream


class DataArrivals:
    """The DATA frames of one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        # The stream whose frame is arriving; None if its payload is dropped.
        self._stream: Stream | None = None

    def receive(self, piece: DataPiece, events: list[Event]) -> None:
        """Raises: ProtocolError, StreamError."""
        if piece.flow_bytes is not None:
            self._stream = None
            self._stream = self._begin(piece, piece.flow_bytes)
        stream = self._stream
        # A reset of ours may have come between two pieces of one frame.
        if stream is None or stream.id not in self._link.streams.live:
            return
        if piece.payload:
            events.append(DataReceived(stream.id, piece.payload))
        if piece.ends_stream:
            self._link.end_remote(stream)
            events.append(StreamEnded(stream.id))

    def _begin(self, piece: DataPiece, flow_bytes: int) -> Stream | None:
        """Account for a whole frame, before any of it is passed on."""
        link = self._link
        try:
            link.receive.take(flow_bytes)
        except FlowControlViolated as error:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, str(error)) from error
        if flow_bytes == piece.padding_bytes and not piece.ends_stream:
            link.strain.idle_frame()
        stream = link.streams.live.get(piece.stream_id)
        if stream is None or stream.phase is Phase.MALFORMED:
            self._drop(stream, piece.stream_id, flow_bytes)
            return None
        try:
            self._take(stream, flow_bytes)
        except StreamError:
            link.credit_connection(flow_bytes)
            raise
        if piece.padding_bytes:
            link.credit_connection(piece.padding_bytes)
            link.credit_stream(stream, piece.padding_bytes)
        link.strain.data_received(flow_bytes - piece.padding_bytes)
        return stream

    def _drop(self, stream: Stream | None, stream_id: int, flow_bytes: int) -> None:
        """Nobody will consume it, so its connection credit goes straight back."""
        self._link.credit_connection(flow_bytes)
        if stream is None:
            self._link.late_frame(stream_id, "DATA")
        else:
            self._link.strain.idle_frame()

    def _take(self, stream: Stream, flow_bytes: int) -> None:
        if not stream.receives:
            raise StreamError(stream.id, ErrorCode.STREAM_CLOSED, "DATA after its end")
        if stream.phase is Phase.ASKED and self._link.role is Role.CLIENT:
            raise StreamError(
                stream.id, ErrorCode.PROTOCOL_ERROR, "DATA before a response"
            )
        try:
            stream.receive.take(flow_bytes)
        except FlowControlViolated as error:
            raise StreamError(
                stream.id, ErrorCode.FLOW_CONTROL_ERROR, str(error)
            ) from error
