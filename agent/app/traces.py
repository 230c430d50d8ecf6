"""
Direct connections as the ledger's messages: what the kernel traced, in our words.

Pure. TCP counts a SYN and a FIN as a byte each (RFC 9293 section 3.4); here they are
taken off. After a reset in the middle of closing a count may be one byte short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.redirect.inet_diag import DiagSocket, TcpState
from agent.redirect.records import Trace
from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Endpoint,
    TrafficCounted,
)
from agent.workload.direct import Grounds, Revocation

# The last states of a connection that both sides finished.
_FINISHED: Final = frozenset({TcpState.FIN_WAIT2, TcpState.CLOSING, TcpState.LAST_ACK})
_PEER_FINISHED: Final = frozenset(
    {TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.CLOSING}
)


@dataclass(frozen=True, slots=True)
class Story:
    """
    A trace with what control knows about it.

    `grounds` None: it was begun under an earlier agent. `zero` is the Unix time at
    which CLOCK_MONOTONIC was 0.
    """

    cookie: int
    trace: Trace
    zero: float
    grounds: Grounds | None = None
    service: str | None = None
    revocation: Revocation | None = None

    @property
    def id(self) -> str:
        """See `name_of`."""
        return name_of(self.cookie)

    def opened(self) -> ConnectionOpened:
        """It is open, or was."""
        source, destination = self._ends()
        return ConnectionOpened(
            id=self.id,
            worker=None,
            direction="outbound",
            path="direct",
            source=source,
            destination=destination,
            opened=self.zero + self.trace.opened,
            rule=self.grounds.rule if self.grounds else None,
            audit=self.grounds.audit if self.grounds else None,
        )

    def ended(self, closed: float) -> ConnectionClosed | ConnectionRefused:
        """It is over since `closed`, of CLOCK_MONOTONIC in seconds."""
        if self.trace.state == TcpState.SYN_SENT:
            return self._never_opened(closed)
        sent, received = carried(self.trace)
        revoked = self.revocation
        if self.trace.state in _FINISHED:
            return ConnectionClosed(
                id=self.id,
                outcome="closed",
                closed=self.zero + closed,
                sent_bytes=sent,
                received_bytes=received,
            )
        return ConnectionClosed(
            id=self.id,
            outcome="refused" if revoked else "failed",
            reason=revoked.reason if revoked else "reset",
            rule=revoked.rule if revoked else None,
            closed=self.zero + closed,
            sent_bytes=sent,
            received_bytes=received,
        )

    def _never_opened(self, closed: float) -> ConnectionRefused:
        source, destination = self._ends()
        revoked = self.revocation
        return ConnectionRefused(
            id=self.id,
            worker=None,
            direction="outbound",
            path="direct",
            source=source,
            destination=destination,
            closed=self.zero + closed,
            outcome="refused" if revoked else "failed",
            reason=revoked.reason if revoked else "the application did not accept it",
            rule=revoked.rule if revoked else None,
        )

    def _ends(self) -> tuple[Endpoint, Endpoint]:
        source, to = str(self.trace.source), str(self.trace.meant)
        if self.grounds is None:
            return Endpoint(source), Endpoint(to, service=self.service)
        here, there = self.grounds.source, self.grounds.destination
        return (
            Endpoint(source, here.name, str(here.identity)),
            Endpoint(to, there.name, str(there.identity), self.service),
        )


def changed(id: str, grounds: Grounds) -> ConnectionChanged:
    """An open connection is let in by another rule from now on."""
    return ConnectionChanged(id=id, rule=grounds.rule, audit=grounds.audit)


def name_of(cookie: int) -> str:
    """A connection's id, unique on this boot: no socket cookie is used twice."""
    return f"direct-{cookie:x}"


def carried(trace: Trace) -> tuple[int, int]:
    """Bytes sent and received by the client of a connection that is over."""
    own_fin = trace.state in _FINISHED
    # From FIN_WAIT2 to the end: the peer's FIN, unless nobody waited for it any more.
    peer_fin = trace.state in _PEER_FINISHED or (
        trace.state == TcpState.FIN_WAIT2
        and trace.received_bytes > trace.received_before
    )
    return (
        max(0, trace.acked_bytes - 1 - own_fin),
        max(0, trace.received_bytes - peer_fin),
    )


def counted(id: str, found: DiagSocket) -> TrafficCounted:
    """What an open connection has carried so far."""
    own_fin = found.state == TcpState.FIN_WAIT2
    peer_fin = found.state in _PEER_FINISHED
    return TrafficCounted(
        id=id,
        sent_bytes=max(0, found.acked_bytes - 1 - own_fin),
        received_bytes=max(0, found.received_bytes - peer_fin),
    )
