"""
eBPF instructions by hand, for programs of a dozen: they need no compiler.

Source: uapi/linux/bpf.h (struct bpf_insn), kernel Documentation/bpf/standardization.
"""

from __future__ import annotations

import struct
from typing import Final

R0, R1, R2, R3, R4, R6, R10 = 0, 1, 2, 3, 4, 6, 10

_MAP_FD: Final = 1  # BPF_PSEUDO_MAP_FD


def wide(target: int, number: int, source: int = 0) -> bytes:
    """Load 64 bits: one instruction in two places."""
    low, high = number & 0xFFFFFFFF, number >> 32
    first = struct.pack("=BBhI", 0x18, source << 4 | target, 0, low)
    return first + struct.pack("=BBhI", 0, 0, 0, high)


def map_of(target: int, fd: int) -> bytes:
    """The map behind a descriptor."""
    return wide(target, fd, source=_MAP_FD)


def move(target: int, source: int) -> bytes:
    return _plain(0xBF, target, source=source)


def number(target: int, value: int) -> bytes:
    return _plain(0xB7, target, number=value)


def add(target: int, value: int) -> bytes:
    return _plain(0x07, target, number=value)


def read32(target: int, source: int, offset: int) -> bytes:
    """target = *(u32 *)(source + offset)"""
    return _plain(0x61, target, source=source, offset=offset)


def read64(target: int, source: int, offset: int) -> bytes:
    """target = *(u64 *)(source + offset)"""
    return _plain(0x79, target, source=source, offset=offset)


def store32(target: int, offset: int, value: int) -> bytes:
    """*(u32 *)(target + offset) = value"""
    return _plain(0x62, target, offset=offset, number=value)


def write64(target: int, offset: int, source: int) -> bytes:
    """*(u64 *)(target + offset) = source"""
    return _plain(0x7B, target, source=source, offset=offset)


def skip_if_zero(register: int, count: int) -> bytes:
    """Go over the next `count` instructions if the register is 0."""
    return _plain(0x15, register, offset=count)


def call(helper: int) -> bytes:
    return _plain(0x85, 0, number=helper)


def leave(value: int) -> bytes:
    """return value;"""
    return number(R0, value) + _plain(0x95, 0)


def _plain(
    code: int, target: int, *, source: int = 0, offset: int = 0, number: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, number)
