"""
Addresses with a role, and the one place where byte order changes.

An address is an IP address and a TCP port. Inside Podlock IPv4 is always plain
IPv4: the IPv4-mapped form (RFC 4291 section 2.5.5.2) that dual-stack sockets show
is folded away at the door by `SocketAddress.of`, and put back on the way into the
kernel's maps, where both families share one 16-byte form.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NewType

from agent.errors import InputError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAPPED_PREFIX: Final = bytes(10) + b"\xff\xff"


class InvalidAddress(InputError):
    """Text or bytes that are not an address."""


# The addresses of a node's pods and their peers come again with each connection.
@lru_cache(maxsize=4096)
def parse_ip(text: str) -> IPAddress:
    """
    Read an IP address; an IPv4-mapped one comes back as IPv4.

    Raises: InvalidAddress, also for a zone index ("fe80::1%eth0"), which means
    nothing outside the host that wrote it.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidAddress(f"{text!r} is not an IP address") from error
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise InvalidAddress(f"{text!r}: a zone index is not allowed here")
    return unmapped(address)


def unmapped(address: IPAddress) -> IPAddress:
    """IPv4 for an IPv4-mapped IPv6 address, anything else as it is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def packed_ip(address: IPAddress) -> bytes:
    """16 bytes in network order; IPv4 in its mapped form, as bpf/records.h has it."""
    return MAPPED_PREFIX + address.packed if address.version == 4 else address.packed


def unpacked_ip(data: bytes) -> IPAddress:
    """The inverse of `packed_ip`. Raises: InvalidAddress unless 16 bytes."""
    if len(data) != 16:
        raise InvalidAddress(f"an address has 16 bytes, not {len(data)}")
    return unmapped(ipaddress.IPv6Address(data))


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An IP address and a TCP port (0 to 65535), as text `10.0.0.1:80`, `[::1]:80`."""

    ip: IPAddress
    port: int

    def __str__(self) -> str:
        host = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)
        return f"{host}:{self.port}"

    @classmethod
    def of(cls, sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> SocketAddress:
        """From what `getsockname`, `getpeername` and `accept` return."""
        return cls(parse_ip(sockaddr[0].partition("%")[0]), sockaddr[1])

    @classmethod
    def parse(cls, text: str) -> SocketAddress:
        """
        Read `10.0.0.1:80` or `[2001:db8::1]:80` (RFC 3986 section 3.2.2).

        Raises: InvalidAddress for a missing or out-of-range port, IPv6 without
        brackets, a host name.
        """
        host, colon, digits = text.rpartition(":")
        if not colon or not digits.isascii() or not digits.isdigit():
            raise InvalidAddress(f"{text!r} is not ADDRESS:PORT")
        bracketed = host.startswith("[") and host.endswith("]")
        ip = parse_ip(host[1:-1] if bracketed else host)
        if bracketed != (":" in host):
            raise InvalidAddress(f"{text!r}: brackets go around IPv6 and only there")
        if len(digits) > 5 or not 0 < int(digits) < 65536:
            raise InvalidAddress(f"{text!r}: a port is between 1 and 65535")
        return cls(ip, int(digits))


ClientAddress = NewType("ClientAddress", SocketAddress)
"""Where a connection came from: the application's own address and source port."""
OriginalDestination = NewType("OriginalDestination", SocketAddress)
"""What the application asked for: a pod, a Service or something outside."""
TunnelAddress = NewType("TunnelAddress", SocketAddress)
"""Where a workload takes HBONE: its pod address, port 15008."""
DeliveryAddress = NewType("DeliveryAddress", SocketAddress)
"""Where the destination application listens: its pod address and port."""
