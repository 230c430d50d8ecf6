"""
The addresses of a network namespace, by rtnetlink.

Source: rtnetlink(7), linux/if_addr.h, linux/rtnetlink.h. `parse` is pure.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import Final

from agent.addresses import IPAddress

NETLINK_ROUTE: Final = 0
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
NLM_F_REQUEST: Final = 0x1
NLM_F_DUMP: Final = 0x300
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
RT_SCOPE_UNIVERSE: Final = 0
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2  # on a point-to-point link IFA_ADDRESS is the other end's

_HEADER: Final = struct.Struct("=IHHII")
_IFADDR: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_READ_BYTES: Final = 1 << 16
_WAIT_SECONDS: Final = 1.0

REQUEST: Final = _HEADER.pack(
    _HEADER.size + _IFADDR.size, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, 1, 0
) + _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def own_addresses() -> tuple[IPAddress, ...]:
    """
    The first address of each family that others can reach, of this thread's namespace.

    Blocks; the kernel answers at once. Raises: OSError.
    """
    first: dict[int, IPAddress] = {}
    for address in all_addresses():
        first.setdefault(address.version, address)
    return tuple(first.values())


def all_addresses() -> list[IPAddress]:
    """Every such address. Raises: OSError."""
    addresses: list[IPAddress] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as route:
        route.settimeout(_WAIT_SECONDS)
        route.send(REQUEST)
        while True:
            found, is_over = parse(route.recv(_READ_BYTES))
            addresses += found
            if is_over:
                return addresses


def parse(data: bytes) -> tuple[list[IPAddress], bool]:
    """The global addresses in one datagram, and whether it is the last one."""
    found: list[IPAddress] = []
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if kind in (NLMSG_DONE, NLMSG_ERROR) or not _HEADER.size <= length <= len(data):
            return found, True
        if kind == RTM_NEWADDR and length >= _HEADER.size + _IFADDR.size:
            found += _address(data[_HEADER.size : length])
        data = data[-(-length // 4) * 4 :]
    return found, False


def _address(body: bytes) -> Iterator[IPAddress]:
    _, _, _, scope, _ = _IFADDR.unpack_from(body)
    if scope != RT_SCOPE_UNIVERSE:
        return
    attributes = dict(_attributes(body[_IFADDR.size :]))
    packed = attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS, b""))
    if len(packed) in (4, 16):
        yield ipaddress.ip_address(packed)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[-(-length // 4) * 4 :]
