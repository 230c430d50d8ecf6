"""Instructions as uapi/linux/bpf.h lays them out."""

from __future__ import annotations

import struct

import pytest

from agent.redirect import assembly as asm


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (asm.move(6, 1), (0xBF, 0x16, 0, 0)),
        (asm.number(3, -2), (0xB7, 0x03, 0, -2)),
        (asm.add(2, -4), (0x07, 0x02, 0, -4)),
        (asm.read32(0, 1, 64), (0x61, 0x10, 64, 0)),
        (asm.read64(6, 1, 184), (0x79, 0x16, 184, 0)),
        (asm.store32(10, -4, 9), (0x62, 0x0A, -4, 9)),
        (asm.write64(0, 0, 1), (0x7B, 0x10, 0, 0)),
        (asm.skip_if_zero(6, 5), (0x15, 0x06, 5, 0)),
        (asm.call(122), (0x85, 0, 0, 122)),
    ],
)
def test_one_instruction(made: bytes, expected: tuple[int, ...]) -> None:
    """Code, registers (source above target), offset, number."""
    assert struct.unpack("=BBhi", made) == expected


def test_a_map_takes_two_places() -> None:
    """BPF_LD_IMM64 with a descriptor."""
    assert asm.map_of(1, 9) == struct.pack("=BBhiBBhi", 0x18, 0x11, 0, 9, 0, 0, 0, 0)


def test_leaving() -> None:
    """r0 is what a program returns."""
    assert asm.leave(1) == struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
