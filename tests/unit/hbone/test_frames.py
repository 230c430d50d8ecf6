"""Frames are built and read to the bit as RFC 9113 sections 4 and 6 draw them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone import frames
from agent.hbone.frames import ErrorCode, FrameType, ProtocolError


class TestBuild:
    def test_the_header_is_nine_bytes_in_network_order(self) -> None:
        """Section 4.1, drawn by hand."""
        header = frames.frame_header(0x012345, FrameType.DATA, 0x01, 0x0A0B0C0D)

        assert header == bytes.fromhex("012345 00 01 0a0b0c0d")

    def test_the_small_frames(self) -> None:
        """One vector each for RST_STREAM, WINDOW_UPDATE, PING and GOAWAY."""
        assert frames.rst_stream(5, ErrorCode.CANCEL) == bytes.fromhex(
            "000004 03 00 00000005 00000008"
        )
        assert frames.window_update(0, 65_536) == bytes.fromhex(
            "000004 08 00 00000000 00010000"
        )
        assert frames.ping(b"12345678", ack=True) == (
            bytes.fromhex("000008 06 01 00000000") + b"12345678"
        )
        assert frames.goaway(7, ErrorCode.NO_ERROR, "bye") == (
            bytes.fromhex("00000b 07 00 00000000 00000007 00000000") + b"bye"
        )

    def test_a_ping_has_eight_bytes(self) -> None:
        """Another length would be our own FRAME_SIZE_ERROR."""
        with pytest.raises(ValueError, match="8 bytes"):
            frames.ping(b"short")

    def test_debug_text_is_short_ascii(self) -> None:
        """A peer's bytes quoted in a GOAWAY cannot make it long or binary."""
        payload = frames.goaway(0, ErrorCode.NO_ERROR, "ä" * 10_000)[9:]

        assert payload[8:] == b"?" * frames.MAX_DEBUG_BYTES


class TestParse:
    @given(
        st.integers(0, 2**24 - 1),
        st.integers(0, 255),
        st.integers(0, 255),
        st.integers(0, 2**31 - 1),
    )
    def test_a_header_round_trips(
        self, length: int, kind: int, flags: int, stream_id: int
    ) -> None:
        """What is built is read back."""
        header = frames.frame_header(length, kind, flags, stream_id)

        assert frames.parse_frame_header(header) == (length, kind, flags, stream_id)

    def test_the_reserved_bits_are_ignored(self) -> None:
        """Section 4.1: a set reserved bit changes no stream, window or GOAWAY."""
        assert frames.parse_frame_header(b"\0\0\0\0\0\x80\0\0\1")[3] == 1
        assert frames.parse_u31(b"\x80\0\0\2") == 2
        assert frames.parse_goaway(b"\x80\0\0\3\0\0\0\0")[0] == 3

    def test_an_unknown_error_code_is_an_internal_error(self) -> None:
        """Section 7 allows that, and a later code must not crash us."""
        assert frames.parse_error_code(b"\xff\0\0\0") is ErrorCode.INTERNAL_ERROR

    def test_a_short_goaway_is_refused(self) -> None:
        """Section 6.8 has two fields that must be there."""
        with pytest.raises(ProtocolError) as error:
            frames.parse_goaway(b"1234567")
        assert error.value.code is ErrorCode.FRAME_SIZE_ERROR


class TestHeadersPadding:
    @pytest.mark.parametrize(
        ("flags", "payload", "fragment"),
        [
            (0, b"block", b"block"),
            (frames.PADDED, b"\x02block\0\0", b"block"),
            (frames.PADDED, b"\x00block", b"block"),
            (frames.PADDED, b"\x02\0\0", b""),
            (frames.PRIORITY_FIELDS, b"\0\0\0\0\x10block", b"block"),
            (frames.PADDED | frames.PRIORITY_FIELDS, b"\x01.....block\0", b"block"),
        ],
    )
    def test_is_taken_off(self, flags: int, payload: bytes, fragment: bytes) -> None:
        """Section 6.2: what remains is the block fragment."""
        assert frames.strip_headers_padding(flags, payload) == fragment

    @pytest.mark.parametrize(
        ("flags", "payload", "code"),
        [
            (frames.PADDED, b"", ErrorCode.FRAME_SIZE_ERROR),
            (frames.PRIORITY_FIELDS, b"1234", ErrorCode.FRAME_SIZE_ERROR),
            (frames.PADDED, b"\x01", ErrorCode.PROTOCOL_ERROR),
            (frames.PADDED, b"\xffblock", ErrorCode.PROTOCOL_ERROR),
            (
                frames.PADDED | frames.PRIORITY_FIELDS,
                b"\x02.....b",
                ErrorCode.PROTOCOL_ERROR,
            ),
        ],
    )
    def test_that_does_not_fit(
        self, flags: int, payload: bytes, code: ErrorCode
    ) -> None:
        """Padding may not eat the fields before it."""
        with pytest.raises(ProtocolError) as error:
            frames.strip_headers_padding(flags, payload)
        assert error.value.code is code
