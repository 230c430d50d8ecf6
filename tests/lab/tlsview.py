"""
What an onlooker can tell of TLS: records, and the version that was agreed on.

Reads only what is in the clear (RFC 8446): record headers, and the ServerHello.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.lab.pcap import Flow, Stream

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
SERVER_HELLO: Final = 2
SUPPORTED_VERSIONS: Final = 43
TLS_1_3: Final = 0x0304

# RFC 8446 5.2: a protected record carries at most 2^14 + 256 bytes.
MAX_RECORD_BYTES: Final = (1 << 14) + 256
HEADER_BYTES: Final = 5


class NotTls(ValueError):
    """Bytes that are not TLS records."""


@dataclass(frozen=True, slots=True)
class Record:
    """One TLS record: its content type, legacy version and body."""

    kind: int
    version: int
    body: bytes

    @property
    def header(self) -> bytes:
        """The five bytes before the body."""
        head = self.version.to_bytes(2) + len(self.body).to_bytes(2)
        return bytes([self.kind]) + head


def split_records(data: bytes) -> tuple[list[Record], bytes]:
    """
    The whole records at the start of `data`, and the bytes of an unfinished one.

    Raises: NotTls where a record header cannot be one.
    """
    records = []
    position = 0
    while position + HEADER_BYTES <= len(data):
        kind = data[position]
        version = int.from_bytes(data[position + 1 : position + 3])
        length = int.from_bytes(data[position + 3 : position + 5])
        if kind not in range(20, 24) or version >> 8 != 3 or length > MAX_RECORD_BYTES:
            head = data[position : position + HEADER_BYTES]
            raise NotTls(f"{head!r} at byte {position} is no TLS record header")
        end = position + HEADER_BYTES + length
        if end > len(data):
            break
        records.append(Record(kind, version, data[position + HEADER_BYTES : end]))
        position = end
    return records, data[position:]


def agreed_version(hello: bytes) -> int:
    """
    The version in a ServerHello message (RFC 8446 4.1.3, 4.2.1).

    Raises: NotTls when it is another message or cut short.
    """
    if len(hello) < 39 or hello[0] != SERVER_HELLO:
        raise NotTls("the server's first message is not a ServerHello")
    legacy, session = int.from_bytes(hello[4:6]), hello[38]
    position = 39 + session + 3  # cipher suite and compression method
    end = position + 2 + int.from_bytes(hello[position : position + 2])
    position += 2
    while position + 4 <= min(end, len(hello)):
        kind = int.from_bytes(hello[position : position + 2])
        length = int.from_bytes(hello[position + 2 : position + 4])
        if kind == SUPPORTED_VERSIONS:
            return int.from_bytes(hello[position + 4 : position + 4 + length])
        position += 4 + length
    return legacy


def faults(streams: Iterable[Stream], port: int) -> list[str]:
    """
    Why these streams are not all TLS 1.3 on `port`; empty when they are.

    A stream that was open before the capture began is only held to the port: its
    records cannot be told apart from the middle.
    """
    found = []
    for stream in streams:
        if port not in (stream.flow.source_port, stream.flow.destination_port):
            found.append(f"{stream.flow}: not on port {port}")
        elif stream.whole and stream.data:
            found += _stream_faults(stream, from_server=stream.flow.source_port == port)
    return found


def _stream_faults(stream: Stream, *, from_server: bool) -> list[str]:
    try:
        records, _unfinished = split_records(stream.data)
        if not records:
            return []
        if from_server and records[0].kind != ALERT:
            version = agreed_version(records[0].body)
            if version != TLS_1_3:
                return [f"{stream.flow}: TLS version {version:#06x}"]
    except NotTls as error:
        return [f"{stream.flow}: {error}"]
    # After the hello everything but ChangeCipherSpec is protected (RFC 8446 5).
    clear = [each.kind for each in records[1:] if each.kind == HANDSHAKE]
    return [f"{stream.flow}: a handshake message in the clear"] if clear else []


def handshakes(streams: Iterable[Stream], port: int) -> dict[Flow, int]:
    """The version agreed on in each connection whose ServerHello was seen."""
    agreed = {}
    for stream in streams:
        if stream.whole and stream.flow.source_port == port and stream.data:
            records, _unfinished = split_records(stream.data)
            if records and records[0].kind == HANDSHAKE:
                agreed[stream.flow.back] = agreed_version(records[0].body)
    return agreed
