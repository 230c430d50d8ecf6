"""
HTTP/2 frames: their nine-byte header, types, flags, error codes and errors.

Source: RFC 9113 sections 4, 6 and 7. Everything is a plain integer or bytes; the
frames that we send are built here, the ones that arrive are cut out by `reader`.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from agent.errors import PeerError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
PING_BYTES: Final = 8
MAX_STREAM_ID: Final = 2**31 - 1
# RFC 9113 section 4.2: what every endpoint must be able to take.
MIN_MAX_FRAME_BYTES: Final = 2**14
MAX_MAX_FRAME_BYTES: Final = 2**24 - 1
# Enough for a sentence; the peer's log is its only reader.
MAX_DEBUG_BYTES: Final = 256

# Flags are plain integers: an IntFlag costs half a microsecond for each `&`.
END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITY_FIELDS: Final = 0x20

_HEADER: Final = struct.Struct(">BHBBI")
_U32: Final = struct.Struct(">I")
_GOAWAY: Final = struct.Struct(">II")
_RESERVED_BIT: Final = 0x80000000


class FrameType(IntEnum):
    """The types of RFC 9113 section 6; any other is ignored on arrival."""

    DATA = 0x00
    HEADERS = 0x01
    PRIORITY = 0x02
    RST_STREAM = 0x03
    SETTINGS = 0x04
    PUSH_PROMISE = 0x05
    PING = 0x06
    GOAWAY = 0x07
    WINDOW_UPDATE = 0x08
    CONTINUATION = 0x09


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x00
    PROTOCOL_ERROR = 0x01
    INTERNAL_ERROR = 0x02
    FLOW_CONTROL_ERROR = 0x03
    SETTINGS_TIMEOUT = 0x04
    STREAM_CLOSED = 0x05
    FRAME_SIZE_ERROR = 0x06
    REFUSED_STREAM = 0x07
    CANCEL = 0x08
    COMPRESSION_ERROR = 0x09
    CONNECT_ERROR = 0x0A
    ENHANCE_YOUR_CALM = 0x0B
    INADEQUATE_SECURITY = 0x0C
    HTTP_1_1_REQUIRED = 0x0D

    @classmethod
    def of(cls, number: int) -> ErrorCode:
        """A received code; an unknown one is INTERNAL_ERROR, as section 7 allows."""
        try:
            return cls(number)
        except ValueError:
            return cls.INTERNAL_ERROR


class ProtocolError(PeerError):
    """A connection error (RFC 9113 section 5.4.1): the whole connection is over."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code


class StreamError(PeerError):
    """A stream error (RFC 9113 section 5.4.2): one stream is over, the rest go on."""

    def __init__(self, stream_id: int, code: ErrorCode, message: str) -> None:
        super().__init__(f"stream {stream_id}: {code.name}: {message}")
        self.stream_id = stream_id
        self.code = code


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes in front of a payload of `length` bytes."""
    return _HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


def parse_frame_header(nine: bytes | memoryview) -> tuple[int, int, int, int]:
    """Length, type, flags and stream; the reserved bit is ignored (section 4.1)."""
    high, low, kind, flags, stream_id = _HEADER.unpack(nine)
    return high << 16 | low, kind, flags, stream_id & MAX_STREAM_ID


def frame(kind: FrameType, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame, for the small ones."""
    return frame_header(len(payload), kind, flags, stream_id) + payload


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return frame(FrameType.RST_STREAM, 0, stream_id, _U32.pack(code))


def window_update(stream_id: int, increment: int) -> bytes:
    """Credit for a stream, or for the connection as stream 0."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, _U32.pack(increment))


def ping(payload: bytes, *, ack: bool = False) -> bytes:
    """Raises: ValueError unless `payload` has eight bytes."""
    if len(payload) != PING_BYTES:
        raise ValueError(f"a PING carries {PING_BYTES} bytes, not {len(payload)}")
    return frame(FrameType.PING, ACK if ack else 0, 0, payload)


def goaway(last_stream_id: int, code: ErrorCode, debug: str = "") -> bytes:
    text = debug.encode("ascii", "replace")[:MAX_DEBUG_BYTES]
    return frame(FrameType.GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + text)


def parse_u31(payload: bytes) -> int:
    """A WINDOW_UPDATE's increment; its first bit is reserved."""
    number: int = _U32.unpack(payload)[0]
    return number & ~_RESERVED_BIT


def parse_error_code(payload: bytes) -> ErrorCode:
    return ErrorCode.of(_U32.unpack(payload)[0])


def parse_goaway(payload: bytes) -> tuple[int, ErrorCode, bytes]:
    """Last stream, code, debug data. Raises: ProtocolError if shorter than 8 bytes."""
    if len(payload) < _GOAWAY.size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has at least 8 bytes")
    last_stream_id, code = _GOAWAY.unpack_from(payload)
    return last_stream_id & MAX_STREAM_ID, ErrorCode.of(code), payload[_GOAWAY.size :]


def strip_headers_padding(flags: int, payload: bytes) -> bytes:
    """
    A HEADERS payload without padding and priority fields: its block fragment.

    Raises: ProtocolError where they do not fit in the frame (sections 6.1, 6.2).
    """
    start = (1 if flags & PADDED else 0) + (5 if flags & PRIORITY_FIELDS else 0)
    if len(payload) < start:
        raise ProtocolError(
            ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its flags"
        )
    end = len(payload) - (payload[0] if flags & PADDED else 0)
    if end < start:
        raise ProtocolError(
            ErrorCode.PROTOCOL_ERROR, "HEADERS: more padding than payload"
        )
    return payload[start:end]
