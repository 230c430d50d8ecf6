"""The checker sees whatever can happen to a byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak.sequence import BLOCK_BYTES, Checker, Sequence, WrongByte

KEY = 0xC0FFEE
SIZE = 3 * BLOCK_BYTES + 777
SENT = Sequence(KEY).part(0, SIZE)
PLACES = [0, 5, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 100, SIZE - 2]


def check(arrived: bytes, piece: int = 10_000) -> Checker:
    checker = Checker(Sequence(KEY))
    for start in range(0, len(arrived), piece):
        checker.take(arrived[start : start + piece])
    return checker


@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_any_piece_is_the_same_piece(one: int, other: int) -> None:
    """A part does not depend on how the sequence was cut before it."""
    start, end = sorted((one, other))
    assert Sequence(KEY).part(start, end - start) == SENT[start:end]


@pytest.mark.parametrize("piece", [1000, 65536, SIZE])
def test_what_was_sent_passes(piece: int) -> None:
    """Whole, counted, and with the same hash however it was cut."""
    checker = check(SENT, piece)
    assert checker.count == SIZE
    assert checker.hash == check(SENT).hash


@pytest.mark.parametrize("place", PLACES)
def test_a_corrupted_byte(place: int) -> None:
    """One bit is enough, and its position is told."""
    arrived = bytearray(SENT)
    arrived[place] ^= 1
    with pytest.raises(WrongByte) as caught:
        check(bytes(arrived))
    assert caught.value.position == place


@pytest.mark.parametrize("place", PLACES)
def test_a_lost_byte(place: int) -> None:
    """All after it is out of place; a hash alone would only say so at the end."""
    with pytest.raises(WrongByte) as caught:
        check(SENT[:place] + SENT[place + 1 :])
    # Equal neighbours hide a loss for as long as they are equal.
    assert place <= caught.value.position < place + 8


@pytest.mark.parametrize("place", PLACES)
def test_a_doubled_byte(place: int) -> None:
    """As with a lost one, the other way round."""
    with pytest.raises(WrongByte) as caught:
        check(SENT[: place + 1] + SENT[place:])
    assert place < caught.value.position < place + 8


def test_the_last_byte_lost_leaves_the_count_short() -> None:
    """Nothing is out of place then: count and hash tell."""
    checker = check(SENT[:-1])
    assert checker.count == SIZE - 1
    assert checker.hash != check(SENT).hash


@pytest.mark.parametrize("size", [1, 9, 4096, BLOCK_BYTES])
def test_swapped_pieces(size: int) -> None:
    """Two neighbours in the wrong order, down to single bytes."""
    first, second = SENT[20 : 20 + size], SENT[20 + size : 20 + 2 * size]
    assert first != second
    arrived = SENT[:20] + second + first + SENT[20 + 2 * size :]
    with pytest.raises(WrongByte):
        check(arrived)


def test_a_doubled_or_lost_block() -> None:
    """What a relay would lose or repeat: a whole buffer."""
    for arrived in (
        SENT[:BLOCK_BYTES] + SENT[2 * BLOCK_BYTES :],
        SENT[: 2 * BLOCK_BYTES] + SENT[BLOCK_BYTES:],
    ):
        with pytest.raises(WrongByte) as caught:
            check(arrived)
        assert BLOCK_BYTES <= caught.value.position < 2 * BLOCK_BYTES + 16


def test_bytes_of_another_connection() -> None:
    """Even the first few of them differ."""
    with pytest.raises(WrongByte) as caught:
        check(Sequence(KEY ^ 1).part(0, 100))
    assert caught.value.position < 16
