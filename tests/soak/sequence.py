"""
The bytes of one direction of one connection, each known by its position.

Blocks of 16 KiB: the sequence's key, the block's number, then random bytes from a
place that both decide. So a byte that was lost, doubled, swapped or altered, or that
belongs to another connection, differs from what is expected where it arrives.
"""

from __future__ import annotations

import hashlib
import random
from typing import Final

BLOCK_BYTES: Final = 1 << 14
HEAD_BYTES: Final = 16
POOL_BYTES: Final = 1 << 20

# The same on each machine and in each process.
_POOL: Final = memoryview(random.Random(1).randbytes(POOL_BYTES))
_WORD: Final = (1 << 64) - 1


def mixed(*words: int) -> int:
    """64 bits that depend on all of the words, as splitmix64 mixes them."""
    state = 0
    for word in words:
        state = (state + word + 0x9E3779B97F4A7C15) & _WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
        state ^= state >> 31
    return state


class Sequence:
    """An endless sequence of bytes; `part` gives any piece of it."""

    def __init__(self, key: int) -> None:
        self._key = key

    def part(self, position: int, count: int) -> bytes:
        """`count` bytes from `position` on."""
        first, last = position // BLOCK_BYTES, (position + count - 1) // BLOCK_BYTES
        blocks = b"".join(self._block(number) for number in range(first, last + 1))
        start = position - first * BLOCK_BYTES
        return blocks[start : start + count]

    def _block(self, number: int) -> bytes:
        place = mixed(self._key, number) % (POOL_BYTES - BLOCK_BYTES)
        head = self._key.to_bytes(8) + number.to_bytes(8)
        return head + _POOL[place : place + BLOCK_BYTES - HEAD_BYTES]


class WrongByte(Exception):
    """What arrived is not what was sent; `position` is the first such byte."""

    def __init__(self, position: int, expected: int, found: int) -> None:
        super().__init__(
            f"byte {position}: expected 0x{expected:02x}, found 0x{found:02x}"
        )
        self.position = position


class Checker:
    """
    Compares what arrives with a sequence, and counts and hashes it.

    The hash is a second, independent witness: the sender makes one of what it sent.
    """

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self._digest = hashlib.sha256()
        self.count = 0

    def take(self, data: memoryview | bytes) -> None:
        """The next bytes that arrived. Raises: WrongByte."""
        expected = self._sequence.part(self.count, len(data))
        if expected != data:
            pairs = enumerate(zip(expected, data, strict=True))
            index, (wanted, found) = next(
                (index, pair) for index, pair in pairs if pair[0] != pair[1]
            )
            raise WrongByte(self.count + index, wanted, found)
        self._digest.update(data)
        self.count += len(data)

    @property
    def hash(self) -> str:
        """SHA-256 of all that arrived, its first 16 bytes in hex."""
        return self._digest.hexdigest()[:32]
