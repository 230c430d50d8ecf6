"""
A program for one pod: it tells `inbound` which network namespace it runs for.

No helper tells that in sk_lookup, and an address can pass to another pod before the
agent hears of it. So each pod gets a program of its own, which runs right before
`inbound` on the same CPU and leaves the namespace's cookie in the map `here`. It has
nothing in it but a number, so it needs no compiler.
"""

from __future__ import annotations

from typing import Final

from agent.redirect import assembly as asm
from agent.redirect.assembly import R0, R1, R2, R10

NAME: Final = "here"
SK_PASS: Final = 1

_MAP_LOOKUP: Final = 1  # BPF_FUNC_map_lookup_elem


def instructions(map_fd: int, netns_cookie: int) -> bytes:
    """
    The program, for `bpf_prog_load`.

    *lookup(here, 0) = netns_cookie; return SK_PASS;
    """
    return b"".join(
        (
            asm.map_of(R1, map_fd),
            asm.store32(R10, -4, 0),
            asm.move(R2, R10),
            asm.add(R2, -4),
            asm.call(_MAP_LOOKUP),
            asm.skip_if_zero(R0, 3),  # to "return SK_PASS"
            asm.wide(R1, netns_cookie),
            asm.write64(R0, 0, R1),
            asm.leave(SK_PASS),
        )
    )
