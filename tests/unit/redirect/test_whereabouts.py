"""A pod's own program, instruction by instruction."""

from __future__ import annotations

import struct

from agent.redirect import whereabouts

COOKIE = 0xAABBCCDD11223344


def test_the_program() -> None:
    """Twelve instructions: the map, key 0, the lookup, the cookie, SK_PASS."""
    data = whereabouts.instructions(9, COOKIE)
    one = [struct.unpack_from("=BBhi", data, at) for at in range(0, len(data), 8)]
    assert len(one) == 12
    assert one[0] == (0x18, 0x11, 0, 9)  # r1 = the map behind descriptor 9
    assert one[5] == (0x85, 0, 0, 1)  # bpf_map_lookup_elem
    # Over the two places of the constant and the store, to "r0 = 1".
    assert one[6] == (0x15, 0, 3, 0)
    assert one[10] == (0xB7, 0, 0, whereabouts.SK_PASS)
    assert one[11] == (0x95, 0, 0, 0)


def test_a_cookie_has_64_bits() -> None:
    """Both halves are there, the lower one first."""
    data = whereabouts.instructions(9, COOKIE)
    low, high = (struct.unpack_from("=I", data, at)[0] for at in (7 * 8 + 4, 8 * 8 + 4))
    assert high << 32 | low == COOKIE
