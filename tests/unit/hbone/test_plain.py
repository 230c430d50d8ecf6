"""Blocks without a dynamic table: the library agrees on each byte."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone import plain

LIMIT = 16_384

names = st.sampled_from([name for name, _ in plain.STATIC]) | st.binary(max_size=300)
values = st.binary(max_size=300) | st.sampled_from([v for _, v in plain.STATIC])
kinds = st.sampled_from([HeaderTuple, NeverIndexedHeaderTuple])
fields = st.lists(st.builds(lambda kind, n, v: kind(n, v), kinds, names, values))


@given(fields)
def test_the_library_reads_what_is_written(written: list[HeaderTuple]) -> None:
    """Every name, value and length; what must not be indexed stays so."""
    decoded = Decoder(1 << 20).decode(plain.write(written), raw=True)

    assert decoded == [tuple(field) for field in written]
    for field, back in zip(written, decoded, strict=True):
        if (field[0], field[1]) not in plain.STATIC:
            assert back.indexable is field.indexable


@given(fields)
def test_own_blocks_are_read(written: list[HeaderTuple]) -> None:
    """As long as no string is longer than a CONNECT has any."""
    read = plain.read(plain.write(written), 1 << 20)

    if all(len(text) <= 254 for field in written for text in field):
        assert read == [tuple(field) for field in written]
    else:
        assert read is None


@given(st.binary(max_size=60))
def test_any_bytes(block: bytes) -> None:
    """What is read here the library reads the same; nothing is raised."""
    read = plain.read(block, LIMIT)

    if read is not None:
        assert read == list(Decoder(LIMIT).decode(block, raw=True))


@pytest.mark.parametrize(
    "block",
    [
        Encoder().encode([(b"a", b"b")], huffman=False),  # goes into the table
        b"\x20\x88",  # a table size
        b"\x00\x81\x1f\x01a",  # Huffman
        b"\xbe",  # the dynamic table's first
        b"\x80",  # index 0
        b"\x0f\x80\x01\x01a",  # a name's index in three bytes
        b"\x0f\x2f\x01a",  # a name of the dynamic table
        b"\x00\x05ab",  # shorter than it says
        b"\x00",  # nothing follows
    ],
)
def test_the_rest_is_the_librarys(block: bytes) -> None:
    """Broken, compressed or with a table: not judged here."""
    assert plain.read(block, LIMIT) is None


def test_too_much_is_the_librarys() -> None:
    """RFC 9113 section 6.5.2: 32 bytes a field and the text."""
    block = plain.write([HeaderTuple(b"a", b"b")] * 3)

    assert plain.read(block, 3 * 34) is not None
    assert plain.read(block, 3 * 34 - 1) is None
