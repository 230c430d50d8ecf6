"""
The bytes of map keys and values: the mirror of bpf/records.h.

Addresses and ports are in network order, cookies in the machine's own. A test loads
the programs and compares sizes and offsets with what the compiler made of the header.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
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
_TUPLE: Final = struct.Struct("=20s20s")
_GRANT: Final = struct.Struct("=QQ")
_NOTE: Final = struct.Struct("=QQQ")
_TWO: Final = struct.Struct("=II")
_TRACE: Final = struct.Struct("=QQ20s20s20sIQQQQQ")

# Where in a trace closed_ns is: verdict, netns, three addresses, state, opened_ns.
_CLOSED_AT: Final = slice(88, 96)

IP_BYTES: Final = 16
ADDRESS_BYTES: Final = _ADDRESS.size
FLOW_BYTES: Final = _FLOW.size
POD_BYTES: Final = _POD.size
COOKIE_BYTES: Final = _COOKIE.size
DIGEST_BYTES: Final = 32
TUPLE_BYTES: Final = _TUPLE.size
GRANT_BYTES: Final = _GRANT.size
NOTE_BYTES: Final = _NOTE.size
TRACE_BYTES: Final = _TRACE.size

NO_IP: Final = bytes(IP_BYTES)

# Key and value size of every map that user space opens, in bytes.
MAP_SIZES: Final = {
    "enrolled": (COOKIE_BYTES, POD_BYTES),
    "passage": (COOKIE_BYTES, _U32.size),
    "originals": (FLOW_BYTES, ADDRESS_BYTES),
    "clients": (FLOW_BYTES, ADDRESS_BYTES),
    "listeners": (IP_BYTES, COOKIE_BYTES),
    "verdicts": (FLOW_BYTES, GRANT_BYTES),
    "noted": (TUPLE_BYTES, NOTE_BYTES),
    "traces": (COOKIE_BYTES, TRACE_BYTES),
    "unrecorded": (_U32.size, COOKIE_BYTES),
    "judged": (COOKIE_BYTES, _U32.size),
    "services": (ADDRESS_BYTES, _TWO.size),
    "choices": (_TWO.size, ADDRESS_BYTES),
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


# Same node, direct.


@dataclass(frozen=True, slots=True)
class Trace:
    """
    `struct trace`: a direct connection as the kernel tells it.

    `state` is the TCP state (`inet_diag.TcpState`), of a closed one the last before
    the end. Times are seconds of CLOCK_MONOTONIC, `closed` None while it lives. The
    counts are TCP's own, with SYN and FIN in them.
    """

    verdict: int
    netns: int
    source: SocketAddress
    destination: SocketAddress
    meant: SocketAddress
    state: int
    opened: float
    closed: float | None
    acked_bytes: int
    received_bytes: int
    received_before: int


@dataclass(frozen=True, slots=True)
class Glance:
    """A trace that was not read whole: there may be thousands, and no news of them."""

    cookie: int
    data: bytes

    @property
    def verdict(self) -> int:
        """The id of the verdict that it rests upon."""
        return unpack_cookie(self.data[:COOKIE_BYTES])

    @property
    def netns(self) -> int:
        """The client's namespace, by its cookie."""
        return unpack_cookie(self.data[COOKIE_BYTES : 2 * COOKIE_BYTES])

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return any(self.data[_CLOSED_AT])

    def trace(self) -> Trace:
        """All of it. Raises: InvalidRecord."""
        return unpack_trace(self.data)


def pack_pair(netns_cookie: int, destination: SocketAddress) -> bytes:
    """`struct pair`, the key of `verdicts`; it has the shape of `struct flow`."""
    return pack_flow(netns_cookie, destination)


unpack_pair = unpack_flow


def pack_grant(verdict: int, netns_cookie: int) -> bytes:
    """`struct grant`: a verdict's id and the namespace of the pod it is about."""
    return _GRANT.pack(verdict, netns_cookie)


def unpack_grant(data: bytes) -> tuple[int, int]:
    """The inverse of `pack_grant`. Raises: InvalidRecord."""
    verdict, netns_cookie = _GRANT.unpack(_sized(data, GRANT_BYTES, "grant"))
    return verdict, netns_cookie


def unpack_note(data: bytes) -> tuple[int, int]:
    """`struct note`: namespace cookie and verdict. Raises: InvalidRecord."""
    netns_cookie, verdict, _ = _NOTE.unpack(_sized(data, NOTE_BYTES, "note"))
    return netns_cookie, verdict


def pack_service(number: int, count: int) -> bytes:
    """`struct service`."""
    return _TWO.pack(number, count)


def unpack_service(data: bytes) -> tuple[int, int]:
    """The inverse of `pack_service`. Raises: InvalidRecord."""
    number, count = _TWO.unpack(_sized(data, _TWO.size, "service"))
    return number, count


def pack_choice(number: int, index: int) -> bytes:
    """`struct choice`, the key of `choices`."""
    return _TWO.pack(number, index)


def unpack_trace(data: bytes) -> Trace:
    """`struct trace`. Raises: InvalidRecord."""
    verdict, netns, source, destination, meant, state, opened, closed, *counts = (
        _TRACE.unpack(_sized(data, TRACE_BYTES, "trace"))
    )
    acked, received, before = counts
    return Trace(
        verdict=verdict,
        netns=netns,
        source=unpack_address(source),
        destination=unpack_address(destination),
        meant=unpack_address(meant),
        state=state,
        opened=opened / 1e9,
        closed=closed / 1e9 if closed else None,
        acked_bytes=acked,
        received_bytes=received,
        received_before=before,
    )
