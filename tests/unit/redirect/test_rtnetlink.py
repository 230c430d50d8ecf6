"""Addresses out of rtnetlink's bytes, and out of this very machine."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest

from agent.redirect import rtnetlink
from agent.redirect.rtnetlink import IFA_ADDRESS, IFA_LOCAL, RTM_NEWADDR, parse

DONE = struct.pack("=IHHIIi", 20, rtnetlink.NLMSG_DONE, 2, 1, 9, 0)
HOST, LINK = 254, 253  # RT_SCOPE_HOST, RT_SCOPE_LINK


def attribute(kind: int, text: str) -> bytes:
    packed = ipaddress.ip_address(text).packed
    return struct.pack("=HH", 4 + len(packed), kind) + packed


def message(family: int, scope: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BBBBI", family, 24, 0, scope, 2) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), RTM_NEWADDR, 2, 1, 9) + body


def texts(data: bytes) -> tuple[list[str], bool]:
    found, is_over = parse(data)
    return [str(address) for address in found], is_over


def test_global_ones() -> None:
    """Not those of loopback, and not IPv6's own of each link."""
    data = (
        message(socket.AF_INET, HOST, attribute(IFA_LOCAL, "127.0.0.1"))
        + message(socket.AF_INET, 0, attribute(IFA_LOCAL, "10.200.1.7"))
        + message(socket.AF_INET6, 0, attribute(IFA_ADDRESS, "fd00::7"))
        + message(socket.AF_INET6, LINK, attribute(IFA_ADDRESS, "fe80::7"))
        + DONE
    )
    assert texts(data) == (["10.200.1.7", "fd00::7"], True)


def test_the_other_end_is_not_ours() -> None:
    """On a point-to-point link both are told, in any order."""
    ends = attribute(IFA_ADDRESS, "10.0.0.1"), attribute(IFA_LOCAL, "10.0.0.2")
    assert texts(message(socket.AF_INET, 0, *ends)) == (["10.0.0.2"], False)
    assert texts(message(socket.AF_INET, 0, *ends[::-1])) == (["10.0.0.2"], False)


@pytest.mark.parametrize("size", range(1, 60))
def test_what_is_cut_off(size: int) -> None:
    """Ends the reading, and never runs over."""
    data = message(socket.AF_INET6, 0, attribute(IFA_ADDRESS, "fd00::7")) + DONE
    found, _ = texts(data[:size])
    assert found in ([], ["fd00::7"])


def test_of_this_namespace() -> None:
    """At most one of a family, each one that others can reach."""
    found = rtnetlink.own_addresses()
    assert len({address.version for address in found}) == len(found)
    assert not any(address.is_loopback for address in found)
