"""
A connection as the status socket shows it: its shape, and how one comes about.

The rules of `documents` hold: every key is there, what is unknown is null.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from agent.status.documents import iso, iso_or_null
from agent.workload.connection import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Direction,
    Ending,
    Path,
    Peer,
)
from agent.workload.connection import Endpoint as End


class Endpoint(TypedDict):
    address: str
    workload: str | None
    identity: str | None
    service: str | None


class PeerCertificate(TypedDict):
    """
    Who is at the other end of the tunnel, and which certificate it was shown.

    `issued` is the start of its certificate: when it renewed last.
    """

    identity: str
    serial: str
    not_after: str
    issued: str | None
    anchor: str | None
    issuer: str | None
    shown_serial: str | None
    shown_anchor: str | None


class Connection(TypedDict):
    """
    `worker` is null for a direct connection, which none carries; `audit` is the rule
    that would deny the connection and only audits.
    """

    id: str
    worker: int | None
    direction: Direction
    path: Path
    source: Endpoint
    destination: Endpoint
    state: str
    outcome: Literal["open"] | Ending
    reason: str | None
    rule: str | None
    audit: str | None
    sent_bytes: int
    received_bytes: int
    opened: str | None
    closed: str | None
    peer: PeerCertificate | None


class Connections(TypedDict):
    """`recent`: the latest that ended or never opened, oldest first."""

    open: list[Connection]
    recent: list[Connection]
    counts: dict[str, int]


def opened_connection(message: ConnectionOpened) -> Connection:
    """A connection as it stands when it opens."""
    record = _unopened(message)
    record["state"], record["audit"] = message.state, message.audit
    record["opened"] = iso(message.opened)
    return record


def closed_connection(before: Connection, message: ConnectionClosed) -> Connection:
    """The same connection after its end."""
    return {
        **before,
        "state": "closed",
        "outcome": message.outcome,
        "reason": message.reason,
        # What ended it says more than what had let it in.
        "rule": message.rule or before["rule"],
        "sent_bytes": message.sent_bytes,
        "received_bytes": message.received_bytes,
        "closed": iso(message.closed),
    }


def refused_connection(message: ConnectionRefused) -> Connection:
    """A connection that never opened."""
    record = _unopened(message)
    record["outcome"], record["reason"] = message.outcome, message.reason
    record["closed"] = iso(message.closed)
    return record


def _unopened(message: ConnectionOpened | ConnectionRefused) -> Connection:
    """What both tell of a connection; nothing has come of it yet."""
    return {
        "id": message.id,
        "worker": message.worker,
        "direction": message.direction,
        "path": message.path,
        "source": _endpoint(message.source),
        "destination": _endpoint(message.destination),
        "state": "closed",
        "outcome": "open",
        "reason": None,
        "rule": message.rule,
        "audit": None,
        "sent_bytes": 0,
        "received_bytes": 0,
        "opened": None,
        "closed": None,
        "peer": _peer(message.peer),
    }


def _endpoint(end: End) -> Endpoint:
    return {
        "address": end.address,
        "workload": end.workload,
        "identity": end.identity,
        "service": end.service,
    }


def _peer(peer: Peer | None) -> PeerCertificate | None:
    if peer is None:
        return None
    return {
        "identity": peer.identity,
        "serial": peer.serial,
        "not_after": iso(peer.not_after),
        "issued": iso_or_null(peer.issued),
        "anchor": peer.anchor,
        "issuer": peer.issuer,
        "shown_serial": peer.shown_serial,
        "shown_anchor": peer.shown_anchor,
    }
