"""Frames are cut out of any pieces, and none is collected that is too long."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone import frames
from agent.hbone.frames import ErrorCode, FrameType, ProtocolError
from agent.hbone.reader import DataPiece, Frame, FrameReader


def reader() -> FrameReader:
    return FrameReader(max_frame_bytes=20_000, max_control_bytes=1_000)


def read(data: bytes) -> list[Frame | DataPiece]:
    return list(reader().read(memoryview(data)))


class TestData:
    def test_is_a_view_into_what_arrived(self) -> None:
        """Payload is not copied: a change in the buffer shows in the piece."""
        buffer = bytearray(frames.frame(FrameType.DATA, 0, 1, b"abc"))
        (piece,) = reader().read(memoryview(buffer))
        buffer[-1:] = b"X"

        assert bytes(piece.payload) == b"abX"

    def test_counts_for_flow_control_once(self) -> None:
        """The first piece carries the frame's length, the others none."""
        whole = frames.frame(FrameType.DATA, frames.END_STREAM, 1, b"abcdef")
        cutter = reader()
        pieces = [
            piece
            for part in (whole[:11], whole[11:13], whole[13:])
            for piece in cutter.read(memoryview(part))
        ]

        assert [bytes(p.payload) for p in pieces] == [b"ab", b"cd", b"ef"]
        assert [p.flow_bytes for p in pieces if isinstance(p, DataPiece)] == [
            6,
            None,
            None,
        ]
        assert [p.ends_stream for p in pieces if isinstance(p, DataPiece)] == [
            False,
            False,
            True,
        ]

    def test_padding_counts_but_is_not_payload(self) -> None:
        """Section 6.9.1: the pad length and the padding use up the window."""
        padded = frames.frame(FrameType.DATA, frames.PADDED, 1, b"\x03abc\0\0\0")

        assert (
            read(padded + padded)
            == [DataPiece(1, memoryview(b"abc"), 7, 4, ends_stream=False)] * 2
        )

    @pytest.mark.parametrize(
        ("payload", "code"),
        [
            (b"", ErrorCode.FRAME_SIZE_ERROR),
            (b"\x01", ErrorCode.PROTOCOL_ERROR),
            (b"\x04abc", ErrorCode.PROTOCOL_ERROR),
        ],
    )
    def test_more_padding_than_payload(self, payload: bytes, code: ErrorCode) -> None:
        """Section 6.1: a connection error."""
        with pytest.raises(ProtocolError) as error:
            read(frames.frame(FrameType.DATA, frames.PADDED, 1, payload))
        assert error.value.code is code


class TestControl:
    def test_an_unknown_type_is_passed_over(self) -> None:
        """Its payload is not kept, whatever its length and pieces."""
        strange = frames.frame_header(20_000, 0xBE, 0, 3) + bytes(20_000)
        cutter = reader()
        found = [
            frame
            for at in range(0, len(strange), 4_000)
            for frame in cutter.read(memoryview(strange[at : at + 4_000]))
        ]
        found += cutter.read(memoryview(frames.ping(b"12345678")))

        assert found == [
            Frame(0xBE, 0, 3, b""),
            Frame(FrameType.PING, 0, 0, b"12345678"),
        ]

    @pytest.mark.parametrize(
        ("kind", "length", "code"),
        [
            (FrameType.PING, 7, ErrorCode.FRAME_SIZE_ERROR),
            (FrameType.PRIORITY, 4, ErrorCode.FRAME_SIZE_ERROR),
            (FrameType.RST_STREAM, 5, ErrorCode.FRAME_SIZE_ERROR),
            (FrameType.WINDOW_UPDATE, 0, ErrorCode.FRAME_SIZE_ERROR),
            (FrameType.DATA, 20_001, ErrorCode.FRAME_SIZE_ERROR),
            (0xBE, 20_001, ErrorCode.FRAME_SIZE_ERROR),
            (FrameType.HEADERS, 1_001, ErrorCode.ENHANCE_YOUR_CALM),
            (FrameType.GOAWAY, 1_001, ErrorCode.ENHANCE_YOUR_CALM),
        ],
    )
    def test_a_wrong_length_is_known_by_the_header(
        self, kind: int, length: int, code: ErrorCode
    ) -> None:
        """No payload is waited for."""
        with pytest.raises(ProtocolError) as error:
            read(frames.frame_header(length, kind, 0, 1))
        assert error.value.code is code


class TestPieces:
    @given(st.lists(st.integers(0, 60), max_size=20))
    def test_any_cut_gives_the_same_frames(self, cuts: list[int]) -> None:
        """Byte boundaries mean nothing."""
        stream = (
            frames.ping(b"12345678")
            + frames.frame(FrameType.DATA, frames.PADDED, 1, b"\x02abcde\0\0")
            + frames.frame(FrameType.DATA, frames.END_STREAM, 1)
            + frames.frame_header(4, 0xBE, 0, 0)
            + b"what"
            + frames.window_update(1, 5)
        )
        cutter, seen = reader(), []
        bounds = [0, *sorted(cuts), len(stream)]
        for start, end in pairwise(bounds):
            seen += list(cutter.read(memoryview(stream[start:end])))

        whole = read(stream)
        assert [f for f in seen if isinstance(f, Frame)] == [
            f for f in whole if isinstance(f, Frame)
        ]
        for pick in ("payload", "flow_bytes"):
            assert _total(seen, pick) == _total(whole, pick)


def _total(found: list[Frame | DataPiece], field: str) -> list[object]:
    """All payload bytes together, or the flow-control lengths that were told."""
    pieces = [piece for piece in found if isinstance(piece, DataPiece)]
    if field == "payload":
        return [b"".join(bytes(piece.payload) for piece in pieces)]
    return [p.flow_bytes for p in pieces if p.flow_bytes is not None]
