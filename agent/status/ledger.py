"""
The connections that the workers told us of: open ones by id, the latest ended ones.

What a worker tells about a connection that we do not know (it opened before control
restarted, say) is counted as `unmatched` and otherwise left alone.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, assert_never

from agent.status.records import (
    Connection,
    Connections,
    closed_connection,
    opened_connection,
    refused_connection,
)
from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    TrafficCounted,
)

# At some 700 bytes a record, under a megabyte.
RECENT_CONNECTIONS: Final = 1000

ConnectionMessage = (
    ConnectionOpened
    | ConnectionChanged
    | TrafficCounted
    | ConnectionClosed
    | ConnectionRefused
)


@dataclass(slots=True)
class ConnectionLedger:
    """Apply messages in the order in which they came; ask for `document()`."""

    recent_limit: int = RECENT_CONNECTIONS
    _open: dict[str, Connection] = field(default_factory=dict)
    _recent: deque[Connection] = field(default_factory=deque)
    _counts: Counter[str] = field(default_factory=Counter)

    def apply(self, message: ConnectionMessage) -> None:
        """Take one message in."""
        match message:
            case ConnectionOpened():
                self._opened(message)
            case ConnectionChanged() | TrafficCounted():
                self._progress(message)
            case ConnectionClosed():
                self._closed(message)
            case ConnectionRefused():
                self._ended(refused_connection(message))
            case _:
                assert_never(message)

    def worker_lost(self, worker: int, now: float) -> int:
        """
        A worker died and its connections with it; how many that were.

        `now` is Unix seconds.
        """
        lost = [known for known in self._open.values() if known["worker"] == worker]
        for known in lost:
            self._closed(
                ConnectionClosed(
                    id=known["id"],
                    outcome="failed",
                    closed=now,
                    reason=f"proxy worker {worker} ended",
                    sent_bytes=known["sent_bytes"],
                    received_bytes=known["received_bytes"],
                )
            )
        return len(lost)

    def open_count(self, worker: int | None = None) -> int:
        """How many connections are open, of one worker or of all."""
        if worker is None:
            return len(self._open)
        return sum(known["worker"] == worker for known in self._open.values())

    def by_authority(self) -> dict[tuple[str, str], tuple[int, str]]:
        """
        Open connections by (anchor, issuer) of the peer's certificate: how many, and
        when the oldest was opened (ISO 8601).
        """
        found: dict[tuple[str, str], tuple[int, str]] = {}
        for known in self._open.values():
            peer, opened = known["peer"], known["opened"]
            if peer is None or opened is None:
                continue
            anchor, issuer = peer["anchor"], peer["issuer"]
            if anchor is not None and issuer is not None:
                count, oldest = found.get((anchor, issuer), (0, opened))
                found[anchor, issuer] = count + 1, min(oldest, opened)
        return found

    def counts(self) -> dict[str, int]:
        """
        How many are open now, and how many ended how since the start.

        `dropped` are those that ended and no longer fit into the recent list.
        """
        names = ("closed", "refused", "failed", "dropped", "unmatched")
        return {
            "open": len(self._open),
            **{name: self._counts[name] for name in names},
        }

    def document(self) -> Connections:
        """A copy: later messages do not change it."""
        return {
            "open": [known.copy() for known in self._open.values()],
            "recent": [known.copy() for known in self._recent],
            "counts": self.counts(),
        }

    def _opened(self, message: ConnectionOpened) -> None:
        if message.id in self._open:
            # Two connections cannot share a record: the first one's end got lost.
            self._counts["unmatched"] += 1
        self._open[message.id] = opened_connection(message)

    def _progress(self, message: ConnectionChanged | TrafficCounted) -> None:
        known = self._open.get(message.id)
        if known is None:
            self._counts["unmatched"] += 1
        elif isinstance(message, ConnectionChanged):
            _change(known, message)
        else:
            known["sent_bytes"] = message.sent_bytes
            known["received_bytes"] = message.received_bytes

    def _closed(self, message: ConnectionClosed) -> None:
        known = self._open.pop(message.id, None)
        if known is None:
            self._counts["unmatched"] += 1
        else:
            self._ended(closed_connection(known, message))

    def _ended(self, connection: Connection) -> None:
        self._counts[connection["outcome"]] += 1
        self._recent.append(connection)
        while len(self._recent) > self.recent_limit:
            self._recent.popleft()
            self._counts["dropped"] += 1


def _change(known: Connection, message: ConnectionChanged) -> None:
    if message.state is not None:
        known["state"] = message.state
    if message.rule is not None:
        known["rule"], known["audit"] = message.rule, message.audit
