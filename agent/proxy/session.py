"""
One connection, from accept to close, as a state table.

The table is the documentation: whoever adds a step says here what may precede it. An
unknown step is a bug of ours and raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Literal

from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Direction,
    Ending,
    Path,
    TrafficCounted,
)
from agent.workload.connection import Endpoint as End
from agent.workload.connection import Peer as PeerCertificate

__all__ = [
    "NEXT",
    "Direction",
    "End",
    "Meter",
    "Path",
    "PeerCertificate",
    "Session",
    "State",
    "Traffic",
    "WrongOrder",
]


class State(Enum):
    """How far a connection has come."""

    ACCEPTED = auto()
    LOCATED = auto()  # we know where it wants to go
    IDENTIFIED = auto()  # we know who the peer is: a certificate was verified
    AUTHORIZED = auto()  # policy permits it (inbound), or the peer said 200 (outbound)
    RELAYING = auto()
    CLOSED = auto()


NEXT: Final[dict[State, frozenset[State]]] = {
    # An inbound CONNECT comes in a tunnel whose peer is known already; plaintext has
    # nobody to identify; a passthrough has nobody to ask.
    State.ACCEPTED: frozenset({State.LOCATED, State.IDENTIFIED, State.CLOSED}),
    State.LOCATED: frozenset(
        {State.IDENTIFIED, State.AUTHORIZED, State.RELAYING, State.CLOSED}
    ),
    State.IDENTIFIED: frozenset({State.LOCATED, State.AUTHORIZED, State.CLOSED}),
    State.AUTHORIZED: frozenset({State.RELAYING, State.CLOSED}),
    State.RELAYING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


class WrongOrder(AssertionError):
    """A session took a step that its state does not allow: a bug in the proxy."""


@dataclass(slots=True)
class Traffic:
    """Bytes as the client sees them: `sent` to the server, `received` from it."""

    sent: int = 0
    received: int = 0


@dataclass(slots=True)
class Meter:
    """Counts at one application's socket, which is the client's or the server's."""

    traffic: Traffic
    app_is_client: bool

    def from_app(self, count: int) -> None:
        """`count` bytes were read from the application."""
        if self.app_is_client:
            self.traffic.sent += count
        else:
            self.traffic.received += count

    def to_app(self, count: int) -> None:
        """`count` bytes were written to the application."""
        if self.app_is_client:
            self.traffic.received += count
        else:
            self.traffic.sent += count


@dataclass(slots=True)
class Session:
    """
    What is known of one connection; becomes the messages that control keeps.

    `opened` and `closed` are Unix times in seconds, given by the caller.
    """

    id: str
    worker: int
    direction: Direction
    path: Path
    source: End
    destination: End
    opened: float
    state: State = State.ACCEPTED
    peer: PeerCertificate | None = None
    rule: str | None = None
    audit: str | None = None
    traffic: Traffic = field(default_factory=Traffic)

    def advance(self, state: State) -> None:
        """Take one step. Raises: WrongOrder."""
        if state not in NEXT[self.state]:
            raise WrongOrder(f"session {self.id}: {self.state.name} -> {state.name}")
        self.state = state

    def open(self) -> ConnectionOpened:
        """The connection relays from now on."""
        self.advance(State.RELAYING)
        return ConnectionOpened(opened=self.opened, audit=self.audit, **self._facts())

    def permitted_by(self, rule: str, audit: str | None) -> bool:
        """
        Note what lets it in now; whether that is another rule than before.

        `audit` is the rule that would deny it, and only audits.
        """
        before = self.rule, self.audit
        self.rule, self.audit = rule, audit
        return (self.rule, self.audit) != before

    def changed(self) -> ConnectionChanged:
        """Another rule lets it in."""
        return ConnectionChanged(id=self.id, rule=self.rule, audit=self.audit)

    def refuse(
        self, outcome: Literal["refused", "failed"], reason: str, closed: float
    ) -> ConnectionRefused:
        """The connection never relayed a byte, and why."""
        self.advance(State.CLOSED)
        return ConnectionRefused(
            closed=closed, outcome=outcome, reason=reason, **self._facts()
        )

    def count(self) -> TrafficCounted:
        """What the connection has carried so far."""
        return TrafficCounted(
            id=self.id,
            sent_bytes=self.traffic.sent,
            received_bytes=self.traffic.received,
        )

    def close(
        self, outcome: Ending, reason: str | None, closed: float
    ) -> ConnectionClosed:
        """The connection relayed, and this is how it ended."""
        self.advance(State.CLOSED)
        return ConnectionClosed(
            id=self.id,
            outcome=outcome,
            reason=reason,
            rule=self.rule,
            sent_bytes=self.traffic.sent,
            received_bytes=self.traffic.received,
            closed=closed,
        )

    def _facts(self) -> dict[str, Any]:
        """What every first message about a connection says."""
        return {
            "id": self.id,
            "worker": self.worker,
            "direction": self.direction,
            "path": self.path,
            "source": self.source,
            "destination": self.destination,
            "rule": self.rule,
            "peer": self.peer,
        }
