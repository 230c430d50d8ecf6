"""
Header blocks: fields <-> HPACK <-> HEADERS and CONTINUATION frames.

The peer's block is bounded three times: in compressed bytes, in frames (an endless
chain of CONTINUATIONs, CVE-2024-27316) and in fields once unpacked (the HPACK bomb,
CVE-2016-6581). After a bad or abandoned block the two dynamic tables differ for good,
so each of these ends the connection (RFC 9113 section 4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hpack import Decoder, HeaderTuple, HPACKError, OversizedHeaderListError

from agent.hbone import plain
from agent.hbone.frames import (
    END_HEADERS,
    END_STREAM,
    MIN_MAX_FRAME_BYTES,
    ErrorCode,
    FrameType,
    ProtocolError,
    frame,
)
from agent.hbone.headers import Fields

# A block of 32 KiB fits in two frames; nobody has a reason for many more.
MAX_BLOCK_FRAMES: Final = 16
# RFC 7541 section 4.2: the smallest size since the last block, then the final one.
MAX_TABLE_SIZE_UPDATES: Final = 2
# RFC 7541 section 6.3: `001`, and a size with a prefix of five bits.
_SIZE_UPDATE: Final = 0x20
_SIZE_UPDATE_BITS: Final = 0xE0
_SIZE_PREFIX: Final = 0x1F


@dataclass(slots=True)
class Block:
    """A header block under way: HEADERS has come, END_HEADERS has not."""

    stream_id: int
    ends_stream: bool
    max_bytes: int
    fragment: bytearray = field(default_factory=bytearray)
    frames: int = 0

    def add(self, fragment: bytes) -> None:
        """Raises: ProtocolError when the block outgrows its limits."""
        self.fragment += fragment
        self.frames += 1
        if self.frames > MAX_BLOCK_FRAMES or len(self.fragment) > self.max_bytes:
            raise ProtocolError(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"a header block of {self.frames} frames, {len(self.fragment)} bytes",
            )


class HeaderDecoder:
    """The peer's header blocks, in the order they arrive."""

    def __init__(self, max_list_bytes: int) -> None:
        self._decoder = Decoder(max_list_bytes)
        self._max_list_bytes = max_list_bytes

    def allow_table(self, size: int) -> None:
        """The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE of ours."""
        self._decoder.max_allowed_table_size = size

    def decode(self, block: bytes) -> Fields:
        """Raises: ProtocolError."""
        decoder = self._decoder
        # A peer that owes us a smaller table must say so in its next block (4.2).
        if decoder.header_table_size <= decoder.max_allowed_table_size:
            fields = plain.read(block, self._max_list_bytes)
            if fields is not None:
                return fields
        _check_table_size_updates(block)
        try:
            return list(decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from error
        except HPACKError as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, str(error)) from error


def _check_table_size_updates(block: bytes) -> None:
    """
    Count the table size updates that the block begins with; elsewhere the decoder
    refuses them. Each one costs the decoder as much as a field and adds none.

    Raises: ProtocolError beyond MAX_TABLE_SIZE_UPDATES.
    """
    at = updates = 0
    while at < len(block) and block[at] & _SIZE_UPDATE_BITS == _SIZE_UPDATE:
        updates += 1
        if updates > MAX_TABLE_SIZE_UPDATES:
            raise ProtocolError(
                ErrorCode.COMPRESSION_ERROR,
                f"more than {MAX_TABLE_SIZE_UPDATES} table size updates in one block",
            )
        has_more = block[at] & _SIZE_PREFIX == _SIZE_PREFIX
        at += 1
        while has_more and at < len(block):
            has_more = bool(block[at] & 0x80)
            at += 1


class HeaderEncoder:
    """
    Our header blocks, in the order they are sent.

    They use no dynamic table, and the first one says so: whatever size the peer's
    SETTINGS allow, now or later, ours is none and need not change.
    """

    def __init__(self) -> None:
        self._first = plain.NO_TABLE

    def encode(self, fields: Sequence[HeaderTuple]) -> bytes:
        first, self._first = self._first, b""
        return first + plain.write(fields)


def header_frames(
    stream_id: int, block: bytes, *, ends_stream: bool, max_frame_bytes: int
) -> bytes:
    """One HEADERS frame, and CONTINUATIONs if the peer's frames are too small."""
    size = min(max_frame_bytes, MIN_MAX_FRAME_BYTES)
    parts = [block[at : at + size] for at in range(0, len(block), size)]
    kinds = [FrameType.HEADERS] + [FrameType.CONTINUATION] * (len(parts) - 1)
    flags = [0] * len(parts)
    flags[0] |= END_STREAM if ends_stream else 0
    flags[-1] |= END_HEADERS
    return b"".join(
        frame(kind, flag, stream_id, part)
        for kind, flag, part in zip(kinds, flags, parts, strict=True)
    )
