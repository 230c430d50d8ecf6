"""
What happened lately: a ring of events, so that a flood of them costs no memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from agent.status.documents import Event, Events, iso
from agent.workload.connection import Incident

RECENT_EVENTS: Final = 1000
# Every kind that an agent notes; a filter for any other is a mistake.
KINDS: Final = (
    "audit",
    "authority",
    "authority-not-shared",
    "authority-refused",
    "bypassed",
    "capture-failed",
    "captured",
    "closed",
    "connection-failed",
    "connection-refused",
    "control-silent",
    "crl",
    "crl-outdated",
    "direct-failed",
    "direct-refused",
    "direct-revoked",
    "direct-unavailable",
    "federation-failed",
    "gate",
    "issued",
    "leave-failed",
    "limit",
    "lost",
    "probes",
    "probes-unknown",
    "problem",
    "redirect",
    "redirect-missing",
    "redirect-restored",
    "release-failed",
    "released",
    "renewed",
    "repair-failed",
    "replaced",
    "request-refused",
    "revocation-failed",
    "trust",
    "tunnel-broken",
    "tunnel-recalled",
    "tunnel-refused",
    "unrecorded",
    "withdrawn",
    "worker-died",
    "worker-hung",
)
# A peer may have a part in the words; it does not get to fill the page.
MAX_MESSAGE_CHARACTERS: Final = 1000


@dataclass(slots=True)
class EventRing:
    """The latest `limit` events, and how many older ones made room."""

    limit: int = RECENT_EVENTS
    dropped: int = 0
    _events: deque[Event] = field(default_factory=deque)

    # `object` is the key that the document has, so the parameter has it too.
    def add(self, kind: str, object: str, message: str, now: float) -> None:
        """Note one event at `now` (Unix seconds)."""
        if len(message) > MAX_MESSAGE_CHARACTERS:
            message = message[:MAX_MESSAGE_CHARACTERS] + "..."
        self._events.append(
            {"time": iso(now), "kind": kind, "object": object, "message": message}
        )
        while len(self._events) > self.limit:
            self._events.popleft()
            self.dropped += 1

    def incident(self, incident: Incident) -> None:
        """Note what a proxy worker told."""
        self.add(incident.kind, incident.object, incident.message, incident.time)

    def document(self) -> Events:
        """Oldest first."""
        return {"events": list(self._events), "dropped": self.dropped}
