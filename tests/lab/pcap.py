"""
Read a capture of the wire: frames, TCP segments, and each direction's bytes.

A second opinion, written for proof and not for speed: it knows the classic pcap file
(as `tcpdump -w` writes it), Ethernet, IPv4, IPv6 and TCP, and reports anything else
by name instead of passing over it. No file and no socket in here: bytes in.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

MAGIC_MICROSECONDS: Final = 0xA1B2C3D4
MAGIC_NANOSECONDS: Final = 0xA1B23C4D
LINKTYPE_ETHERNET: Final = 1

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_ETHERTYPES: Final = {0x0800: "ipv4", 0x86DD: "ipv6", 0x0806: "arp"}
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}


class InvalidCapture(ValueError):
    """Bytes that are no capture, or of a kind that this reader does not know."""


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """One direction of a TCP connection."""

    source: str
    source_port: int
    destination: str
    destination_port: int

    @property
    def back(self) -> Flow:
        """The other direction."""
        return Flow(
            self.destination, self.destination_port, self.source, self.source_port
        )

    def __str__(self) -> str:
        here, there = _join(self.source), _join(self.destination)
        return f"{here}:{self.source_port} > {there}:{self.destination_port}"


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment."""

    flow: Flow
    sequence: int
    flags: int
    payload: bytes


@dataclass(slots=True)
class Stream:
    """What one side of one connection sent, in order, as far as it was captured."""

    flow: Flow
    data: bytes = b""
    whole: bool = False
    """From its SYN on and without a gap; False for what was open before."""


@dataclass(slots=True)
class Capture:
    """Everything that was seen: `others` counts frames that are not TCP, by name."""

    frames: list[bytes]
    segments: list[Segment] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> Capture:
        """Read a capture file. Raises: InvalidCapture."""
        capture = cls(list(frames(data)))
        for frame in capture.frames:
            found = parse_frame(frame)
            if isinstance(found, Segment):
                capture.segments.append(found)
            else:
                capture.others[found] = capture.others.get(found, 0) + 1
        return capture

    def streams(self) -> list[Stream]:
        """Each direction's bytes, put in order."""
        return assemble(self.segments)

    def contains(self, marker: bytes) -> bool:
        """Whether `marker` is readable in any frame, or across frames of a stream."""
        return any(marker in frame for frame in self.frames) or any(
            marker in stream.data for stream in self.streams()
        )


def frames(data: bytes) -> Iterator[bytes]:
    """
    The frames of a capture file; one cut short at the end is left out.

    Raises: InvalidCapture for another file format or link type, and for a frame that
    was not captured whole, in which a marker could hide.
    """
    order = _byte_order(data)
    if (kind := struct.unpack_from(f"{order}I", data, 20)[0]) != LINKTYPE_ETHERNET:
        raise InvalidCapture(f"link type {kind}: expected Ethernet (1)")
    position = 24
    while position + 16 <= len(data):
        _, _, length, original = struct.unpack_from(f"{order}4I", data, position)
        position += 16
        if position + length > len(data):
            return
        if length < original:
            raise InvalidCapture(f"a frame of {original} bytes was cut to {length}")
        yield data[position : position + length]
        position += length


def _byte_order(data: bytes) -> str:
    if len(data) < 24:
        raise InvalidCapture(f"a capture has a header of 24 bytes, not {len(data)}")
    for order in ("<", ">"):
        magic = struct.unpack_from(f"{order}I", data)[0]
        if magic in (MAGIC_MICROSECONDS, MAGIC_NANOSECONDS):
            return order
    raise InvalidCapture(f"magic {data[:4].hex()}: expected a classic pcap file")


def parse_frame(frame: bytes) -> Segment | str:
    """The TCP segment in an Ethernet frame, or the name of what it is instead."""
    if len(frame) < 14:
        return "short frame"
    ethertype = int.from_bytes(frame[12:14])
    name = _ETHERTYPES.get(ethertype, f"ethertype {ethertype:#06x}")
    packet = frame[14:]
    if name == "ipv4":
        return _parse_ipv4(packet)
    return _parse_ipv6(packet) if name == "ipv6" else name


def _parse_ipv4(packet: bytes) -> Segment | str:
    header = (packet[0] & 0x0F) * 4 if packet else 0
    if header < 20 or len(packet) < header:
        return "bad ipv4"
    length, fragment = int.from_bytes(packet[2:4]), int.from_bytes(packet[6:8])
    if fragment & 0x3FFF:
        return "ipv4 fragment"
    if packet[9] != 6:
        return _PROTOCOLS.get(packet[9], f"ipv4 protocol {packet[9]}")
    # Length 0: left to the network card by segmentation offload (Linux BIG TCP).
    end = length or len(packet)
    return _parse_tcp(packet[12:16], packet[16:20], packet[header:end])


def _parse_ipv6(packet: bytes) -> Segment | str:
    if len(packet) < 40:
        return "bad ipv6"
    length, following = int.from_bytes(packet[4:6]), packet[6]
    if following != 6:
        return _PROTOCOLS.get(following, f"ipv6 next header {following}")
    end = 40 + length if length else len(packet)
    return _parse_tcp(packet[8:24], packet[24:40], packet[40:end])


def _parse_tcp(source: bytes, destination: bytes, packet: bytes) -> Segment | str:
    if len(packet) < 20:
        return "bad tcp"
    source_port, destination_port, sequence = struct.unpack_from("!HHI", packet)
    header = (packet[12] >> 4) * 4
    if not 20 <= header <= len(packet):
        return "bad tcp"
    flow = Flow(_text(source), source_port, _text(destination), destination_port)
    return Segment(flow, sequence, packet[13], packet[header:])


def assemble(segments: Iterable[Segment]) -> list[Stream]:
    """Put segments in order; a new SYN on the same addresses begins a new stream."""
    gathered: dict[Flow, list[list[Segment]]] = {}
    for segment in segments:
        runs = gathered.setdefault(segment.flow, [[]])
        first = runs[-1][0] if runs[-1] else None
        if first and segment.flags & SYN and segment.sequence != first.sequence:
            runs.append([])
        runs[-1].append(segment)
    return [_ordered(flow, run) for flow, runs in gathered.items() for run in runs]


def _ordered(flow: Flow, segments: list[Segment]) -> Stream:
    """Join the payloads by sequence number, counted from the SYN or the first seen."""
    began = bool(segments[0].flags & SYN)
    origin = (segments[0].sequence + began) & 0xFFFFFFFF
    pieces = sorted(
        (((each.sequence - origin + 2**31) & 0xFFFFFFFF) - 2**31, each.payload)
        for each in segments
        if each.payload
    )
    data = bytearray()
    start = min(0, pieces[0][0]) if pieces and not began else 0
    for offset, payload in pieces:
        fresh = start + len(data) - offset
        if fresh < 0:
            return Stream(flow, bytes(data))
        data += payload[fresh:]
    return Stream(flow, bytes(data), began)


def _text(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


def _join(host: str) -> str:
    return f"[{host}]" if ":" in host else host
