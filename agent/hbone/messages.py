"""
Header blocks from the peer: requests at a server, responses at a client.

Source: RFC 9113 sections 5.1, 6.2, 6.10, 8.1 and 8.5. A block is decoded even where
its stream is gone, for the compression state belongs to the whole connection.
"""

from __future__ import annotations

from agent.hbone import frames
from agent.hbone.compression import Block, HeaderDecoder
from agent.hbone.events import (
    Answered,
    ConnectRequested,
    Event,
    MalformedRequest,
    StreamEnded,
)
from agent.hbone.frames import ErrorCode, ProtocolError, StreamError
from agent.hbone.headers import (
    Fields,
    MalformedHeaders,
    check_trailers,
    parse_request,
    parse_response,
)
from agent.hbone.link import Link
from agent.hbone.reader import Frame
from agent.hbone.settings import Role
from agent.hbone.stream import Phase, Stream


class Messages:
    """The HEADERS and CONTINUATION frames of one connection."""

    def __init__(
        self, link: Link, decoder: HeaderDecoder, max_block_bytes: int
    ) -> None:
        self._link = link
        self._decoder = decoder
        self._max_block_bytes = max_block_bytes
        self.block: Block | None = None
        """A block under way: nothing but its CONTINUATION may come (section 6.10)."""

    def headers(self, frame: Frame, events: list[Event]) -> None:
        """Raises: ProtocolError, StreamError."""
        # Stream 0 and push: even numbers never carry a message here.
        if frame.stream_id % 2 == 0:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {frame.stream_id}"
            )
        ends = bool(frame.flags & frames.END_STREAM)
        self.block = Block(frame.stream_id, ends, self._max_block_bytes)
        self._add(
            self.block,
            frame.flags,
            frames.strip_headers_padding(frame.flags, frame.payload),
            events,
        )

    def continuation(self, frame: Frame, events: list[Event]) -> None:
        """Raises: ProtocolError, StreamError."""
        if self.block is None or frame.stream_id != self.block.stream_id:
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, "CONTINUATION continues nothing"
            )
        self._add(self.block, frame.flags, frame.payload, events)

    def _add(
        self, block: Block, flags: int, fragment: bytes, events: list[Event]
    ) -> None:
        block.add(fragment)
        if not flags & frames.END_HEADERS:
            return
        self.block = None
        fields = self._decoder.decode(bytes(block.fragment))
        if self._link.role is Role.SERVER:
            self._request(block, fields, events)
        else:
            self._response(block, fields, events)

    # At a server

    def _request(self, block: Block, fields: Fields, events: list[Event]) -> None:
        stream_id = block.stream_id
        streams = self._link.streams
        if stream := streams.live.get(stream_id):
            raise self._second_headers(stream)
        if stream_id <= streams.highest:
            if streams.ending(stream_id) is None:
                # Section 5.1.1: numbers of new streams only ever grow.
                raise ProtocolError(
                    ErrorCode.PROTOCOL_ERROR, f"stream {stream_id} is not a new one"
                )
            self._link.late_frame(stream_id, "HEADERS")
            return
        streams.highest = stream_id
        self._check_room(stream_id)
        stream = self._link.new_stream(stream_id)
        try:
            events.append(ConnectRequested(stream_id, parse_request(fields)))
        except MalformedHeaders as error:
            self._link.strain.abandoned_stream()
            stream.phase = Phase.MALFORMED
            events.append(MalformedRequest(stream_id, str(error)))
        self._maybe_end(block, stream, events)

    def _check_room(self, stream_id: int) -> None:
        """REFUSED_STREAM: nothing was done, so a retry elsewhere is safe (8.7)."""
        link = self._link
        if link.last_accepted is not None:
            raise StreamError(
                stream_id, ErrorCode.REFUSED_STREAM, "opened after our GOAWAY"
            )
        limit = link.local.max_concurrent_streams
        if limit is not None and len(link.streams.live) >= limit:
            raise StreamError(
                stream_id, ErrorCode.REFUSED_STREAM, f"more than {limit} streams"
            )

    def _second_headers(self, stream: Stream) -> StreamError:
        """Section 8.5: a tunnel carries DATA, so it has no trailers."""
        code = ErrorCode.PROTOCOL_ERROR if stream.receives else ErrorCode.STREAM_CLOSED
        return StreamError(stream.id, code, "HEADERS inside a tunnel")

    # At a client

    def _response(self, block: Block, fields: Fields, events: list[Event]) -> None:
        stream = self._link.streams.live.get(block.stream_id)
        if stream is None:
            self._link.late_frame(block.stream_id, "HEADERS")
            return
        if not stream.receives or stream.phase is Phase.CONNECTED:
            raise self._second_headers(stream)
        try:
            if stream.phase is Phase.ASKED:
                self._answer(block, stream, fields, events)
            else:
                self._trailers(block, fields)
        except MalformedHeaders as error:
            raise StreamError(
                stream.id, ErrorCode.PROTOCOL_ERROR, str(error)
            ) from error
        self._maybe_end(block, stream, events)

    def _answer(
        self, block: Block, stream: Stream, fields: Fields, events: list[Event]
    ) -> None:
        status, headers = parse_response(fields)
        if status < 200:
            # Section 8.1: an interim response, of which there may be many.
            if block.ends_stream:
                raise MalformedHeaders("an interim response cannot end a stream")
            self._link.strain.idle_frame()
            return
        stream.phase = Phase.CONNECTED if status < 300 else Phase.REFUSED
        events.append(Answered(stream.id, status, headers))

    def _trailers(self, block: Block, fields: Fields) -> None:
        """An error response may have content, hence trailers; they are not read."""
        check_trailers(fields)
        if not block.ends_stream:
            raise MalformedHeaders("trailers end a stream")

    def _maybe_end(self, block: Block, stream: Stream, events: list[Event]) -> None:
        if block.ends_stream:
            self._link.end_remote(stream)
            events.append(StreamEnded(stream.id))
