"""
The bytes of map keys and values: the mirror of bpf/records.h.

Addresses and ports are in network order, cookies in the machine's own. A test loads
the programs and compares sizes and offsets with what the compiler made of the header.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from agent.addresses import (
    IPAddress,
    SocketAddress,
    packed_ip,
    unpacked_ip,
)
from agent.errors import KernelError

_ADDRESS: Final = struct.Struct("!16sHxx")
_FLOW: Final = struct.Struct("=Q20sxxxx")
_POD: Final = struct.Struct("=16s16s")
_COOKIE: Final = struct.Struct("=Q")
_U32: Final = struct.Struct("=I")

IP_BYTES: Final = 16
ADDRESS_BYTES: Final = _ADDRESS.size
FLOW_BYTES: Final = _FLOW.size
POD_BYTES: Final = _POD.size
COOKIE_BYTES: Final = _COOKIE.size
DIGEST_BYTES: Final = 32

NO_IP: Final = bytes(IP_BYTES)

# Key and value size of every map that user space opens, in bytes.
MAP_SIZES: Final = {
    "enrolled": (COOKIE_BYTES, POD_BYTES),
    "passage": (COOKIE_BYTES, _U32.size),
    "originals": (FLOW_BYTES, ADDRESS_BYTES),
    "clients": (FLOW_BYTES, ADDRESS_BYTES),
    "listeners": (IP_BYTES, COOKIE_BYTES),
    "about": (_U32.size, DIGEST_BYTES),
}


class InvalidRecord(KernelError):
    """A map holds bytes of another shape: programs and agent do not match."""


def _sized(data: bytes, size: int, what: str) -> bytes:
    if len(data) != size:
        raise InvalidRecord(f"{what}: {len(data)} bytes, expected {size}")
    return data


def pack_address(address: SocketAddress) -> bytes:
    """`struct address`."""
    return _ADDRESS.pack(packed_ip(address.ip), address.port)


def unpack_address(data: bytes) -> SocketAddress:
    """The inverse of `pack_address`. Raises: InvalidRecord."""
    ip, port = _ADDRESS.unpack(_sized(data, ADDRESS_BYTES, "address"))
    return SocketAddress(unpacked_ip(ip), port)


def pack_flow(netns_cookie: int, source: SocketAddress) -> bytes:
    """`struct flow`, the key of `originals` and `clients`."""
    return _FLOW.pack(netns_cookie, pack_address(source))


def unpack_flow(data: bytes) -> tuple[int, SocketAddress]:
    """The inverse of `pack_flow`. Raises: InvalidRecord."""
    netns_cookie, source = _FLOW.unpack(_sized(data, FLOW_BYTES, "flow"))
    return netns_cookie, unpack_address(source)


def pack_pod(addresses: Sequence[IPAddress]) -> bytes:
    """`struct pod`: the first address of each family, which getsockname shows."""
    first = {4: NO_IP, 6: NO_IP}
    for address in reversed(addresses):
        first[address.version] = packed_ip(address)
    return _POD.pack(first[4], first[6])


def unpack_pod(data: bytes) -> tuple[IPAddress, ...]:
    """The addresses that are there, IPv4 first. Raises: InvalidRecord."""
    packed = _POD.unpack(_sized(data, POD_BYTES, "pod"))
    return tuple(unpacked_ip(ip) for ip in packed if ip != NO_IP)


def pack_cookie(cookie: int) -> bytes:
    """A network namespace's or socket's cookie; also a descriptor for a sockhash."""
    return _COOKIE.pack(cookie)


def unpack_cookie(data: bytes) -> int:
    """The inverse of `pack_cookie`. Raises: InvalidRecord."""
    cookie: int = _COOKIE.unpack(_sized(data, COOKIE_BYTES, "cookie"))[0]
    return cookie


def pack_u32(number: int) -> bytes:
    """An array's index, or the value that only says "is there"."""
    return _U32.pack(number)
