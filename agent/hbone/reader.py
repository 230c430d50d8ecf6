"""
Cut a byte stream into frames, whatever the pieces it arrives in.

DATA is never put together: each piece of its payload is a view into the caller's own
buffer. All other frames are small and come whole; what is kept between two calls is a
part of one such frame, at most `max_control_bytes`. Lengths are judged as soon as the
nine-byte header is there, so that a frame that is too long is never collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from agent.hbone.frames import (
    END_STREAM,
    HEADER_BYTES,
    PADDED,
    PING_BYTES,
    ErrorCode,
    FrameType,
    ProtocolError,
    parse_frame_header,
)

# RFC 9113 section 6: any other length is a FRAME_SIZE_ERROR. For PRIORITY a stream
# error would do, but its stream may be idle, and an idle stream cannot be reset.
_EXACT_BYTES: Final = {
    FrameType.PRIORITY: 5,
    FrameType.RST_STREAM: 4,
    FrameType.PING: PING_BYTES,
    FrameType.WINDOW_UPDATE: 4,
}
_KNOWN: Final = frozenset(FrameType)
_DATA: Final = int(FrameType.DATA)


class Frame(NamedTuple):
    """A whole frame that is not DATA; one of an unknown type has no payload here."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


class DataPiece(NamedTuple):
    """A piece of one DATA frame's payload, without its padding."""

    stream_id: int
    payload: memoryview
    flow_bytes: int | None
    """On the frame's first piece: all that counts for flow control (section 6.9.1)."""
    padding_bytes: int
    """On the first piece: the part of `flow_bytes` that no application will see."""
    ends_stream: bool


class FrameReader:
    """The frames of one direction of one connection."""

    def __init__(self, max_frame_bytes: int, max_control_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._max_control_bytes = max_control_bytes
        self._partial = bytearray()
        self._header: tuple[int, int, int, int] | None = None
        # Of the DATA frame under way: payload still to come, and its first piece's
        # flow_bytes and padding_bytes. `None`: not begun.
        self._data_left: int | None = None
        self._flow_bytes: int | None = None
        self._padding_bytes = 0
        # Padding, and frames of unknown types, are passed over and never kept.
        self._skip = 0
        self.position = 0
        """How much of the view that `read` goes through has been taken in."""

    def whole_data(self, view: memoryview, position: int) -> DataPiece | None:
        """
        The DATA frame that stands at `position`, whole and without padding: the shape
        of nearly all. None for anything else; then `read` it from there.
        """
        start = position + HEADER_BYTES
        if self._header is not None or self._partial or self._skip or start > len(view):
            return None
        length, kind, flags, stream_id = parse_frame_header(view[position:start])
        end = start + length
        whole = kind == _DATA and not flags & PADDED and length > 0
        if not whole or length > self._max_frame_bytes or end > len(view):
            return None
        ends = bool(flags & END_STREAM)
        return DataPiece(stream_id, view[start:end], length, 0, ends)

    def read(self, view: memoryview) -> Iterator[Frame | DataPiece]:
        """
        The frames that `view` completes; after each, what follows `position` may come
        again in another view. Raises: ProtocolError.
        """
        position = 0
        while True:
            if self._skip:
                skipped = min(self._skip, len(view) - position)
                self._skip -= skipped
                position += skipped
            if self._header is None:
                nine, position = self._take(view, position, HEADER_BYTES)
                if nine is None:
                    return
                self._header = self._checked(parse_frame_header(nine))
            piece: Frame | DataPiece | None
            if self._header[1] == FrameType.DATA:
                piece, position = self._data(self._header, view, position)
            else:
                piece, position = self._control(self._header, view, position)
            if piece is None:
                return
            self.position = position
            yield piece

    def _take(
        self, view: memoryview, position: int, count: int
    ) -> tuple[bytes | memoryview | None, int]:
        """`count` bytes and the position after them, or None while too few are here."""
        end = position + count - len(self._partial)
        if end > len(view):
            self._partial += view[position:]
            return None, len(view)
        if not self._partial:
            return view[position:end], end
        self._partial += view[position:end]
        whole = bytes(self._partial)
        self._partial.clear()
        return whole, end

    def _checked(self, header: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        length, kind, _, _ = header
        if length > self._max_frame_bytes:
            raise ProtocolError(
                ErrorCode.FRAME_SIZE_ERROR,
                f"a frame of {length} bytes, at most {self._max_frame_bytes} allowed",
            )
        if kind == FrameType.DATA or kind not in _KNOWN:
            return header
        name = FrameType(kind).name
        exact = _EXACT_BYTES.get(FrameType(kind), length)
        if length != exact:
            raise ProtocolError(
                ErrorCode.FRAME_SIZE_ERROR, f"{name} has {exact} bytes, not {length}"
            )
        if length > self._max_control_bytes:
            raise ProtocolError(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"{name} of {length} bytes, at most {self._max_control_bytes} kept",
            )
        return header

    def _control(
        self, header: tuple[int, int, int, int], view: memoryview, position: int
    ) -> tuple[Frame | None, int]:
        length, kind, flags, stream_id = header
        if kind not in _KNOWN:
            self._header, self._skip = None, length
            return Frame(kind, flags, stream_id, b""), position
        payload, position = self._take(view, position, length)
        if payload is None:
            return None, position
        self._header = None
        return Frame(kind, flags, stream_id, bytes(payload)), position

    def _data(
        self, header: tuple[int, int, int, int], view: memoryview, position: int
    ) -> tuple[DataPiece | None, int]:
        _, _, flags, stream_id = header
        left = self._data_left
        if left is None:
            left, position = self._begin_data(header, view, position)
            if left is None:
                return None, position
        end = min(position + left, len(view))
        if left and end == position:
            return None, position
        payload, flow_bytes = view[position:end], self._flow_bytes
        self._flow_bytes = None
        left -= end - position
        if left:
            self._data_left = left
            return DataPiece(
                stream_id, payload, flow_bytes, self._padding_bytes, False
            ), end
        self._header = self._data_left = None
        # The padding is still to come, but it says nothing: pass over it.
        self._skip = max(0, self._padding_bytes - 1)
        ends = bool(flags & END_STREAM)
        return DataPiece(stream_id, payload, flow_bytes, self._padding_bytes, ends), end

    def _begin_data(
        self, header: tuple[int, int, int, int], view: memoryview, position: int
    ) -> tuple[int | None, int]:
        """The payload's length without padding, once known."""
        length, _, flags, _ = header
        padding_bytes = 0
        if flags & PADDED:
            if not length:
                raise ProtocolError(
                    ErrorCode.FRAME_SIZE_ERROR, "DATA: padded, but empty"
                )
            count, position = self._take(view, position, 1)
            if count is None:
                return None, position
            padding_bytes = 1 + count[0]
            if padding_bytes > length:
                raise ProtocolError(
                    ErrorCode.PROTOCOL_ERROR, "DATA: more padding than payload"
                )
        self._padding_bytes, self._flow_bytes = padding_bytes, length
        self._data_left = length - padding_bytes
        return self._data_left, position
