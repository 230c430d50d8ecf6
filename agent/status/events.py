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


# Kinds of which many come by one cause, and for how long they count as one.
GROUPED: Final = frozenset({"tunnel-broken", "tunnel-recalled"})
GROUP_SECONDS: Final = 5.0
NAMES_TOLD: Final = 5


@dataclass(slots=True)
class _Group:
    """An event, and the like ones since."""

    event: Event
    message: str
    began: float
    more: int = 0
    names: dict[str, None] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """One more, of this object."""
        self.more += 1
        if name != self.event["object"] and len(self.names) < NAMES_TOLD:
            self.names[name] = None
        others = f", of {', '.join(self.names)}" if self.names else ""
        self.event["message"] = f"{self.message} (and {self.more} more{others})"


@dataclass(slots=True)
class EventRing:
    """The latest `limit` events, and how many older ones made room."""

    limit: int = RECENT_EVENTS
    dropped: int = 0
    _events: deque[Event] = field(default_factory=deque)
    _groups: dict[tuple[str, str], _Group] = field(default_factory=dict)

    # `object` is the key that the document has, so the parameter has it too.
    def add(self, kind: str, object: str, message: str, now: float) -> None:
        """
        Note one event at `now` (Unix seconds).

        Of a kind in GROUPED, what follows within GROUP_SECONDS for the same reason
        (what stands behind the last colon) adds to the first one: the tunnels that one
        restart breaks are one event, and hide no other.
        """
        if len(message) > MAX_MESSAGE_CHARACTERS:
            message = message[:MAX_MESSAGE_CHARACTERS] + "..."
        cause = kind, message.rpartition(": ")[2]
        group = self._groups.get(cause)
        if group is not None and 0 <= now - group.began <= GROUP_SECONDS:
            group.add(object)
            return
        event: Event = {
            "time": iso(now),
            "kind": kind,
            "object": object,
            "message": message,
        }
        if kind in GROUPED:
            self._forget_old(now)
            self._groups[cause] = _Group(event, message, now)
        self._events.append(event)
        while len(self._events) > self.limit:
            self._events.popleft()
            self.dropped += 1

    def _forget_old(self, now: float) -> None:
        for cause, group in list(self._groups.items()):
            if now - group.began > GROUP_SECONDS:
                del self._groups[cause]

    def incident(self, incident: Incident) -> None:
        """Note what a proxy worker told."""
        self.add(incident.kind, incident.object, incident.message, incident.time)

    def document(self) -> Events:
        """Oldest first."""
        return {"events": list(self._events), "dropped": self.dropped}
