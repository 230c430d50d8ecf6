"""
The header fields of a CONNECT request and of its answer.

Source: RFC 9113 sections 8.2 and 8.5. Fields are (name, value) in bytes, as HPACK
carries them. What arrives is accepted as the standard writes it or is malformed; what
we send is checked too, for its values come from names in the cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hpack import HeaderTuple, NeverIndexedHeaderTuple

from agent.errors import InputError, PeerError

Fields = Sequence[tuple[bytes, bytes]]

# RFC 9110 section 5.6.2, in lower case only (RFC 9113 section 8.2.1).
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
# RFC 9110 section 5.5: no control character, and no white space at either end.
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
# RFC 9110 section 9.3.6: host and port, both required.
_AUTHORITY: Final = re.compile(
    rb"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})"
)
_STATUS: Final = re.compile(rb"[1-5][0-9]{2}")
# W3C Trace Context section 3.2: version 00 has exactly 55 characters.
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

# RFC 9113 section 8.2.2: they speak of one HTTP/1 hop and mean nothing here.
_CONNECTION_SPECIFIC: Final = frozenset(
    {
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Different on each stream: in the peer's table they would only push out the others.
_NEVER_INDEXED: Final = frozenset({b":authority", b"forwarded", b"traceparent"})
_MAX_REASON_BYTES: Final = 256
# RFC 7541 section 4.1.
_FIELD_OVERHEAD_BYTES: Final = 32


class MalformedHeaders(PeerError):
    """Header fields that RFC 9113 does not allow in a CONNECT or its answer."""


class InvalidHeader(InputError):
    """A value of ours that cannot travel in a header field."""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What a client asks for: `authority` is host:port; the rest as in HBONE."""

    authority: str
    forwarded: str | None = None
    baggage: str | None = None
    traceparent: str | None = None


def request_fields(request: ConnectRequest) -> list[HeaderTuple]:
    """Raises: InvalidHeader."""
    authority = _encoded("authority", request.authority)
    if not _is_authority(authority):
        raise InvalidHeader(f":authority {request.authority!r} is not HOST:PORT")
    fields = [(b":method", b"CONNECT"), (b":authority", authority)]
    for name in ("baggage", "forwarded", "traceparent"):
        value: str | None = getattr(request, name)
        if value is not None:
            fields.append((name.encode(), _encoded(name, value)))
    return _tuples(fields)


def response_fields(
    status: int, headers: Iterable[tuple[str, str]] = ()
) -> list[HeaderTuple]:
    """Raises: InvalidHeader."""
    fields = [(b":status", b"%d" % status)]
    for name, value in headers:
        raw = _encoded(name, name)
        if not _NAME.fullmatch(raw) or raw in _CONNECTION_SPECIFIC:
            raise InvalidHeader(f"{name!r} is not a header name for HTTP/2")
        fields.append((raw, _encoded(name, value)))
    return _tuples(fields)


def printable_reason(reason: str) -> str:
    """`reason` as it may stand in a header: printable ASCII, not too long."""
    legible = "".join(c if " " <= c <= "~" else "?" for c in reason)
    return legible[:_MAX_REASON_BYTES].strip()


def list_bytes(fields: Fields) -> int:
    """The size that SETTINGS_MAX_HEADER_LIST_SIZE limits (RFC 9113, 6.5.2)."""
    return sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in fields)


def parse_request(fields: Fields) -> ConnectRequest:
    """
    Read a request. Raises: MalformedHeaders, also for any method but CONNECT.

    Fields that we do not know are ignored. A `traceparent` that is not in the form of
    W3C Trace Context is dropped, as that standard asks (section 3.2.2.3).
    """
    pseudo, regular = _separated(fields)
    if pseudo.get(b":method") != b"CONNECT":
        raise MalformedHeaders(":method is not CONNECT")
    if pseudo.keys() != {b":method", b":authority"}:
        raise MalformedHeaders("CONNECT has :method and :authority, no more, no less")
    authority = pseudo[b":authority"]
    if not _is_authority(authority):
        raise MalformedHeaders(f":authority {_text(authority)!r} is not HOST:PORT")
    # RFC 9113 section 8.3.1: two different hosts are an attempt at confusion.
    if any(host != authority for host in regular.get(b"host", ())):
        raise MalformedHeaders("host is not :authority")
    if b"content-length" in regular:
        raise MalformedHeaders("CONNECT has no content, so no content-length")
    return ConnectRequest(
        authority=_text(authority),
        forwarded=_combined(regular, b"forwarded"),
        baggage=_combined(regular, b"baggage"),
        traceparent=_traceparent(regular),
    )


def parse_response(fields: Fields) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Read a status and its headers. Raises: MalformedHeaders."""
    pseudo, _ = _separated(fields)
    if pseudo.keys() != {b":status"}:
        raise MalformedHeaders("a response has :status and no other pseudo-header")
    # RFC 9113 section 8.6: HTTP/2 does not have 101.
    status = pseudo[b":status"]
    if not _STATUS.fullmatch(status) or status == b"101":
        raise MalformedHeaders(f":status {_text(status)!r} is not allowed")
    headers = tuple((_text(name), _text(value)) for name, value in fields[1:])
    return int(status), headers


def check_trailers(fields: Fields) -> None:
    """Raises: MalformedHeaders for a pseudo-header (RFC 9113 section 8.1)."""
    pseudo, _ = _separated(fields)
    if pseudo:
        raise MalformedHeaders("trailers have no pseudo-headers")


def _separated(
    fields: Fields,
) -> tuple[dict[bytes, bytes], dict[bytes, list[bytes]]]:
    """Pseudo-headers and regular ones, each name and value checked."""
    pseudo: dict[bytes, bytes] = {}
    regular: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        if not _VALUE.fullmatch(value):
            raise MalformedHeaders(f"the value of {_text(name[:80])!r} is not allowed")
        if name.startswith(b":"):
            if regular or name in pseudo:
                raise MalformedHeaders(f"{_text(name[:80])!r} is late or repeated")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name) or name in _CONNECTION_SPECIFIC:
            raise MalformedHeaders(f"header name {_text(name[:80])!r} is not allowed")
        if name == b"te" and value != b"trailers":
            raise MalformedHeaders("te: only 'trailers' is allowed")
        regular.setdefault(name, []).append(value)
    return pseudo, regular


def _is_authority(value: bytes) -> bool:
    match = _AUTHORITY.fullmatch(value)
    return match is not None and 0 < int(match[1]) < 65_536


def _combined(regular: dict[bytes, list[bytes]], name: bytes) -> str | None:
    """A field that came in several lines is one list (RFC 9110 section 5.3)."""
    values = regular.get(name)
    return _text(b",".join(values)) if values else None


def _traceparent(regular: dict[bytes, list[bytes]]) -> str | None:
    values = regular.get(b"traceparent", [])
    valid = len(values) == 1 and _TRACEPARENT.fullmatch(values[0])
    return _text(values[0]) if valid else None


def _encoded(name: str, value: str) -> bytes:
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidHeader(f"{name}: {value[:80]!r} is not ISO 8859-1") from None
    if not _VALUE.fullmatch(raw):
        raise InvalidHeader(f"{name}: {value[:80]!r} cannot be a header value")
    return raw


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _tuples(fields: Iterable[tuple[bytes, bytes]]) -> list[HeaderTuple]:
    return [
        NeverIndexedHeaderTuple(name, value)
        if name in _NEVER_INDEXED
        else HeaderTuple(name, value)
        for name, value in fields
    ]
