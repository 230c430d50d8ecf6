"""
PEM as we accept it: blocks of one kind with nothing but white space between them.

RFC 7468 section 2 lets a parser take text around the blocks. We refuse it: in a
bundle, text between two anchors is most often a third one that lost its first line.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final

from agent.errors import InputError

CERTIFICATE: Final = "CERTIFICATE"
CERTIFICATE_REQUEST: Final = "CERTIFICATE REQUEST"

# A bundle of 500 anchors; a peer or a file cannot make us hold more.
MAX_PEM_BYTES: Final = 1024 * 1024

_LINE_LENGTH: Final = 64
_SPACE: Final = re.compile(rb"\s*")
_BLOCK: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\s([A-Za-z0-9+/=\s]*)-----END \1-----"
)


class InvalidPem(InputError):
    """Text that is not a sequence of PEM blocks of the wanted kind."""


def parse(data: bytes, label: str) -> tuple[bytes, ...]:
    """
    The DER inside each block of `data`, in order; empty for white space only.

    Raises: InvalidPem for text outside the blocks, another label, bad base64, more
    than MAX_PEM_BYTES. The message names the line.
    """
    if len(data) > MAX_PEM_BYTES:
        raise InvalidPem(f"PEM: more than {MAX_PEM_BYTES} bytes")
    return tuple(_blocks(data, label))


def format_blocks(ders: Iterable[bytes], label: str) -> bytes:
    """One block per DER document, lines of 64 (RFC 7468 section 2)."""
    return b"".join(_block(der, label.encode()) for der in ders)


def _blocks(data: bytes, label: str) -> Iterator[bytes]:
    position = _skip_space(data, 0)
    while position < len(data):
        line = data.count(b"\n", 0, position) + 1
        where = f"PEM line {line}"
        found = _BLOCK.match(data, position)
        if found is None:
            text = data[position : position + 40].decode("ascii", "replace")
            raise InvalidPem(f"{where}: expected a whole {label} block, found {text!r}")
        if found[1] != label.encode():
            raise InvalidPem(f"{where}: expected {label}, found {found[1].decode()}")
        try:
            yield base64.b64decode(b"".join(found[2].split()), validate=True)
        except binascii.Error as error:
            raise InvalidPem(f"{where}: {label}: {error}") from error
        position = _skip_space(data, found.end())


def _skip_space(data: bytes, position: int) -> int:
    found = _SPACE.match(data, position)
    return found.end() if found else position


def _block(der: bytes, label: bytes) -> bytes:
    text = base64.b64encode(der)
    starts = range(0, len(text), _LINE_LENGTH)
    lines = [text[start : start + _LINE_LENGTH] for start in starts]
    frame = (b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----")
    return b"\n".join([frame[0], *lines, frame[1], b""])
