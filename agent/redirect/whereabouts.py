"""
A program for one pod: it tells `inbound` which network namespace it runs for.

No helper tells that in sk_lookup, and an address can pass to another pod before the
agent hears of it. So each pod gets a program of its own, which runs right before
`inbound` on the same CPU and leaves the namespace's cookie in the map `here`. It has
nothing in it but a number, so it needs no compiler.
"""

from __future__ import annotations

import struct
from typing import Final

NAME: Final = "here"
SK_PASS: Final = 1

_MAP_LOOKUP: Final = 1  # BPF_FUNC_map_lookup_elem
_MAP_FD: Final = 1  # BPF_PSEUDO_MAP_FD
_R0, _R1, _R2, _R10 = 0, 1, 2, 10


def instructions(map_fd: int, netns_cookie: int) -> bytes:
    """
    The program, for `bpf_prog_load` (uapi/linux/bpf.h, struct bpf_insn).

    *lookup(here, 0) = netns_cookie; return SK_PASS;
    """
    return b"".join(
        (
            _wide(_R1, map_fd, source=_MAP_FD),
            _plain(0x62, _R10, offset=-4),  # *(u32 *)(r10 - 4) = 0
            _plain(0xBF, _R2, source=_R10),  # r2 = r10
            _plain(0x07, _R2, number=-4),  # r2 += -4
            _plain(0x85, 0, number=_MAP_LOOKUP),  # call
            _plain(0x15, _R0, offset=3),  # if r0 == 0 goto "r0 = SK_PASS"
            _wide(_R1, netns_cookie),
            _plain(0x7B, _R0, source=_R1),  # *(u64 *)(r0 + 0) = r1
            _plain(0xB7, _R0, number=SK_PASS),  # r0 = SK_PASS
            _plain(0x95, 0),  # exit
        )
    )


def _plain(
    code: int, target: int, *, source: int = 0, offset: int = 0, number: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, number)


def _wide(target: int, number: int, source: int = 0) -> bytes:
    """Load 64 bits: one instruction in two places."""
    low, high = number & 0xFFFFFFFF, number >> 32
    first = struct.pack("=BBhI", 0x18, source << 4 | target, 0, low)
    return first + struct.pack("=BBhI", 0, 0, 0, high)
