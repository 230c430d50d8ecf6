"""
The `forwarded` header: whose connection a tunnel carries (RFC 7239 section 4).

HBONE needs one element with one `for`, an IP address and port in quotes. A `host` or
another parameter beside it is legal and says nothing to us; a second element would
mean a second proxy, and the address would no longer be the client's word or ours.
"""

from __future__ import annotations

import re
from typing import Final

from agent.addresses import ClientAddress, InvalidAddress, SocketAddress
from agent.errors import PeerError

_MAX_CHARACTERS: Final = 1_024
_PAIR: Final = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    r"(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)|"
    r'"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)")'
)
_ESCAPED: Final = re.compile(r"\\(.)")


class InvalidForwarded(PeerError):
    """A `forwarded` header that does not name one client's address and port."""


def format_forwarded(client: ClientAddress) -> str:
    """`for="10.0.0.1:1234"`; the colon makes the quotes necessary (section 6)."""
    return f'for="{client}"'


def parse_forwarded(text: str) -> ClientAddress:
    """
    The client's address.

    Raises: InvalidForwarded for more than one element, a parameter that is malformed
    or repeated, a missing `for`, and a `for` that is not an IP address and port
    ("unknown", "_hidden", a host name).
    """
    if len(text) > _MAX_CHARACTERS:
        raise InvalidForwarded(f"forwarded: more than {_MAX_CHARACTERS} characters")
    node = _parameters(text).get("for")
    if node is None:
        raise InvalidForwarded(f"forwarded {text[:80]!r}: no 'for'")
    try:
        return ClientAddress(SocketAddress.parse(node))
    except InvalidAddress as error:
        raise InvalidForwarded(f"forwarded {text[:80]!r}: {error}") from error


def _parameters(text: str) -> dict[str, str]:
    """Section 4: names in any case, none twice, ";" between them, no white space."""
    found: dict[str, str] = {}
    position = 0
    while True:
        match = _PAIR.match(text, position)
        if match is None:
            raise InvalidForwarded(f"forwarded {text[:80]!r}: not NAME=VALUE")
        name = match[1].lower()
        if name in found:
            raise InvalidForwarded(f"forwarded {text[:80]!r}: {name!r} twice")
        found[name] = match[2] if match[3] is None else _ESCAPED.sub(r"\1", match[3])
        position = match.end()
        if position == len(text):
            return found
        if text[position] != ";":
            raise InvalidForwarded(f"forwarded {text[:80]!r}: one element expected")
        position += 1
