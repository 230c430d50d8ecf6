"""
Header blocks that use no dynamic table, written and read without a library.

A CONNECT and its answer are a handful of fields, most of them different each time: a
table of earlier ones saves little and costs a third of the codec's time. So ours never
use it, and a peer's that does not is read here; anything else is the library's.

Source: RFC 7541 sections 5 and 6, and appendix A for the static table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hpack import HeaderTuple
from hpack.table import HeaderTable

STATIC: Final[tuple[tuple[bytes, bytes], ...]] = tuple(HeaderTable.STATIC_TABLE)
# Section 6.3: from now on the table has no room. Before our first field, once.
NO_TABLE: Final = b"\x20"

_WHOLE: Final = {field: index for index, field in reversed([*enumerate(STATIC, 1)])}
_NAMES: Final = {name: index for index, (name, _) in reversed([*enumerate(STATIC, 1)])}

# The first bits of a field (section 6): an index into the table; a literal that is
# not put there; one that nobody on the way may put there.
_INDEXED: Final = 0x80
_LITERAL: Final = 0x00
_NEVER: Final = 0x10
_LITERAL_BITS: Final = 0xE0
_INDEX_MASK: Final = 0x0F
_HUFFMAN: Final = 0x80
_LONG: Final = 0x7F
# RFC 7541 section 4.1.
_FIELD_OVERHEAD_BYTES: Final = 32


def write(fields: Sequence[HeaderTuple]) -> bytes:
    """The block for `fields`; in the static table or literal, not compressed."""
    block = bytearray()
    for field in fields:
        name, value = field
        if (whole := _WHOLE.get((name, value))) is not None:
            block.append(_INDEXED | whole)
            continue
        kind = _LITERAL if field.indexable else _NEVER
        known = _NAMES.get(name, 0)
        if known < _INDEX_MASK:
            block.append(kind | known)
        else:
            block += bytes((kind | _INDEX_MASK, known - _INDEX_MASK))
        if not known:
            _write_string(block, name)
        _write_string(block, value)
    return bytes(block)


def read(block: bytes, max_list_bytes: int) -> list[tuple[bytes, bytes]] | None:
    """
    The fields of a block that touches no dynamic table and is not Huffman-coded.

    None for any other, for a broken one, and for more than `max_list_bytes` of
    fields (RFC 9113 section 6.5.2): the library finds out which.
    """
    fields = []
    at, size, end = 0, 0, len(block)
    try:
        while at < end:
            first = block[at]
            at += 1
            if first & _INDEXED:
                field = STATIC[_static(first & _LONG)]
            elif first & _LITERAL_BITS:
                return None  # to be put into the table, or a new size for it
            else:
                index, at = _index(block, first & _INDEX_MASK, at)
                if index:
                    name = STATIC[_static(index)][0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = name, value
            size += len(field[0]) + len(field[1]) + _FIELD_OVERHEAD_BYTES
            fields.append(field)
    except IndexError:
        return None
    return fields if size <= max_list_bytes else None


def _write_string(block: bytearray, text: bytes) -> None:
    """Section 5.2, without Huffman: it saves a quarter of little, for much time."""
    length = len(text)
    if length < _LONG:
        block.append(length)
    else:
        block.append(_LONG)
        length -= _LONG
        while length >= 0x80:
            block.append(length & 0x7F | 0x80)
            length >>= 7
        block.append(length)
    block += text


def _static(index: int) -> int:
    """Where field `index` is in `STATIC`. Raises: IndexError outside it."""
    if not 0 < index <= len(STATIC):
        raise IndexError
    return index - 1


def _index(block: bytes, index: int, at: int) -> tuple[int, int]:
    """A name's index (section 5.1), and where it ends."""
    if index < _INDEX_MASK:
        return index, at
    if block[at] & 0x80:
        raise IndexError  # far beyond the static table
    return index + block[at], at + 1


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string of up to 254 bytes, not Huffman-coded. Raises: IndexError."""
    length = block[at]
    at += 1
    if length & _HUFFMAN:
        raise IndexError
    if length == _LONG:
        if block[at] & 0x80:
            raise IndexError
        length += block[at]
        at += 1
    if at + length > len(block):
        raise IndexError
    return block[at : at + length], at + length
