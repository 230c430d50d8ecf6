"""Header blocks are bounded before, while and after they are unpacked."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone import frames
from agent.hbone.compression import (
    MAX_BLOCK_FRAMES,
    Block,
    HeaderDecoder,
    HeaderEncoder,
    header_frames,
)
from agent.hbone.frames import ErrorCode, FrameType, ProtocolError
from agent.hbone.headers import response_fields
from tests.unit.hbone.wire import parsed


class TestBlock:
    def test_a_flood_of_continuations(self) -> None:
        """CVE-2024-27316: even empty ones have an end."""
        block = Block(1, ends_stream=False, max_bytes=100)
        for _ in range(MAX_BLOCK_FRAMES):
            block.add(b"")

        with pytest.raises(ProtocolError) as error:
            block.add(b"")
        assert error.value.code is ErrorCode.ENHANCE_YOUR_CALM

    def test_too_many_bytes(self) -> None:
        """The sum of the fragments counts."""
        block = Block(1, ends_stream=False, max_bytes=100)
        block.add(bytes(100))

        with pytest.raises(ProtocolError):
            block.add(b"1")


class TestDecoder:
    def test_a_bomb(self) -> None:
        """CVE-2016-6581: one big field in the table, named again and again."""
        big = Encoder().encode([(b"a", b"b" * 3_000)])

        with pytest.raises(ProtocolError) as error:
            HeaderDecoder(16_384).decode(big + b"\xbe" * 100)
        assert error.value.code is ErrorCode.ENHANCE_YOUR_CALM

    @pytest.mark.parametrize(
        "block",
        [
            b"\x80",  # index 0
            b"\xff\xff\xff\xff\xff\xff\xff",  # an integer without end
            b"\xc6",  # an index that the table does not have
            b"\x00\x05ab",  # a name shorter than it says
            b"\x00\x81\xff\x00",  # Huffman padding that is none
            b"\x3f\xe2\x1f",  # a table above what we allow (4097)
            b"\x82\x20",  # a table size after a field
        ],
    )
    def test_a_broken_block(self, block: bytes) -> None:
        """RFC 9113 section 4.3: COMPRESSION_ERROR."""
        with pytest.raises(ProtocolError) as error:
            HeaderDecoder(16_384).decode(block)
        assert error.value.code is ErrorCode.COMPRESSION_ERROR

    def test_a_table_that_we_made_smaller(self) -> None:
        """Once the peer has acknowledged a smaller table it must say so (4.2)."""
        decoder = HeaderDecoder(16_384)
        decoder.allow_table(0)

        with pytest.raises(ProtocolError):
            decoder.decode(b"\x82")

    @given(st.lists(st.binary(max_size=40), max_size=4))
    def test_any_bytes(self, blocks: list[bytes]) -> None:
        """Nothing but ProtocolError comes out."""
        decoder = HeaderDecoder(16_384)
        try:
            for block in blocks:
                decoder.decode(block)
        except ProtocolError:
            return


class TestEncoder:
    @given(st.lists(st.integers(0, 10_000), max_size=6))
    def test_whatever_table_the_peer_allows(self, sizes: list[int]) -> None:
        """Through any changes between blocks, the peer's decoder keeps pace."""
        encoder, decoder = HeaderEncoder(), Decoder()
        for size in [4096, *sizes]:
            decoder.max_allowed_table_size = size
            fields = response_fields(200, [("a", "b" * 50), ("c", "d" * 500)])

            assert decoder.decode(encoder.encode(fields), raw=True) == fields

    def test_says_once_that_it_has_no_table(self) -> None:
        """RFC 7541 section 4.2, as bytes: size 0 before the first field."""
        encoder = HeaderEncoder()

        assert encoder.encode(response_fields(200)) == bytes.fromhex("20 88")
        assert encoder.encode(response_fields(200)) == bytes.fromhex("88")


class TestFrames:
    def test_a_long_block_is_continued(self) -> None:
        """No frame above what the peer takes; only the last has END_HEADERS."""
        output = header_frames(
            3, bytes(40_000), ends_stream=True, max_frame_bytes=16_384
        )
        found = parsed(output)

        assert [(kind, flags, len(body)) for kind, flags, _, body in found] == [
            (FrameType.HEADERS, frames.END_STREAM, 16_384),
            (FrameType.CONTINUATION, 0, 16_384),
            (FrameType.CONTINUATION, frames.END_HEADERS, 40_000 - 2 * 16_384),
        ]
