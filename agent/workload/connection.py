"""
What a proxy worker tells control about its connections: small, typed messages.

A connection is `ConnectionOpened` once bytes may flow, `TrafficCounted` now and then,
and `ConnectionClosed` at its end. One that never opened is a single
`ConnectionRefused`, with the reason. What goes wrong before there is any connection
to speak of, such as a TLS handshake, is an `Incident`.

On the wire a message is one JSON object whose `type` names its class. Times are Unix
seconds, counts are bytes since the connection opened.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from agent.errors import InputError

Direction = Literal["outbound", "inbound"]
Path = Literal["tunnel", "plaintext", "passthrough", "direct"]
"""
How the bytes travel: HBONE, plaintext from outside the mesh, or to outside it; or
between two pods of one node, past the agent.
"""
State = Literal["opening", "relaying", "half-closed", "draining", "closed"]
Ending = Literal["closed", "refused", "failed"]
"""`refused`: somebody decided against it. `failed`: it broke."""

# The last second that a four-digit year can show (9999-12-31T23:59:59Z): every time
# that gets past the door can be printed.
_LAST_SECOND: Final = 253402300799
UnixSeconds = Annotated[float, msgspec.Meta(ge=0, le=_LAST_SECOND)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class InvalidMessage(InputError):
    """Bytes that are not one of the messages below."""


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One end of a connection, as far as it is known.

    `address` is `ADDRESS:PORT`, `workload` is `namespace/name`, `identity` a SPIFFE
    ID, `service` the `namespace/name` of the Service that the application asked for.
    """

    address: str
    workload: str | None = None
    identity: str | None = None
    service: str | None = None


class Peer(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Who proved itself at the other end of the tunnel, and what we showed it.

    Serial numbers are hexadecimal, anchor and issuer fingerprints (SHA-256 of the
    DER, hex). `issued` is the start of the peer's certificate: its last renewal.
    """

    identity: str
    serial: str
    not_after: UnixSeconds
    issued: UnixSeconds | None = None
    anchor: str | None = None
    issuer: str | None = None
    shown_serial: str | None = None
    shown_anchor: str | None = None


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """A message; its class name is its tag."""


class ConnectionOpened(_Message, frozen=True, kw_only=True):
    """
    Bytes may flow.

    `id` is unique among all workers of this agent, dead ones included; `worker` is the
    index of the sender, None for a direct connection, which no worker carries.
    `audit` is the rule that would deny it and only audits, None where it is permitted.
    """

    id: str
    worker: Count | None
    direction: Direction
    path: Path
    source: Endpoint
    destination: Endpoint
    opened: UnixSeconds
    state: State = "relaying"
    peer: Peer | None = None
    rule: str | None = None
    audit: str | None = None


class ConnectionChanged(_Message, frozen=True, kw_only=True):
    """
    An open connection went to another state; or policy changed, and `rule` lets it in
    from now on. `audit` belongs to `rule`, as in ConnectionOpened.
    """

    id: str
    state: State | None = None
    rule: str | None = None
    audit: str | None = None


class TrafficCounted(_Message, frozen=True, kw_only=True):
    """What an open connection has carried so far, as its own side sees it."""

    id: str
    sent_bytes: Count
    received_bytes: Count


class ConnectionClosed(_Message, frozen=True, kw_only=True):
    """
    The end of a connection that had opened.

    `reason` is None where both applications finished in order; `rule` names the policy
    object that ended it, as `Kind namespace/name`.
    """

    id: str
    outcome: Ending
    closed: UnixSeconds
    reason: str | None = None
    rule: str | None = None
    sent_bytes: Count = 0
    received_bytes: Count = 0


class ConnectionRefused(_Message, frozen=True, kw_only=True):
    """A connection that never opened: `refused` by decision, or `failed` on the way."""

    id: str
    worker: Count | None
    direction: Direction
    path: Path
    source: Endpoint
    destination: Endpoint
    closed: UnixSeconds
    reason: str
    rule: str | None = None
    outcome: Literal["refused", "failed"] = "refused"
    peer: Peer | None = None


class Incident(_Message, frozen=True, kw_only=True):
    """
    Something to know that belongs to no connection.

    `kind` is a short constant such as `tls-failed`; `object` what it happened to.
    """

    kind: str
    object: str
    message: str
    time: UnixSeconds


class Pong(_Message, frozen=True, kw_only=True):
    """The answer to control's ping of this number."""

    number: Count


class TrustInstalled(_Message, frozen=True, kw_only=True):
    """This version of the trust is in force here, for handshakes and live tunnels."""

    version: Count


class WorldWanted(_Message, frozen=True, kw_only=True):
    """What control last said does not follow on what this worker has: the whole."""

    reason: str


Message = (
    ConnectionOpened
    | ConnectionChanged
    | TrafficCounted
    | ConnectionClosed
    | ConnectionRefused
    | Incident
)
"""About connections: what the ledger keeps and the events tell."""
Answer = Pong | WorldWanted | TrustInstalled
"""About the channel itself."""

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final[msgspec.json.Decoder[Message | Answer]] = msgspec.json.Decoder(
    Message | Answer
)


def encode(message: Message | Answer) -> bytes:
    """One JSON object, without a newline in it or after it."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message | Answer:
    """
    The inverse of `encode`. Raises: InvalidMessage.

    A field that we do not know is passed over: during an upgrade a newer worker may
    tell more than an older control understands.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage(f"not a connection message: {error}") from error


def builtins(value: msgspec.Struct) -> dict[str, Any]:
    """A message or a part of one as plain data, every field present."""
    return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}


def _plain(value: object) -> object:
    return builtins(value) if isinstance(value, msgspec.Struct) else value
