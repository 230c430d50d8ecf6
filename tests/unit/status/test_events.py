"""A flood of events costs neither memory nor the count of them."""

from __future__ import annotations

from agent.status.events import MAX_MESSAGE_CHARACTERS, EventRing
from agent.workload.connection import Incident

from .samples import NOW


def test_older_events_make_room() -> None:
    """The ring keeps the latest and says how many it let go."""
    ring = EventRing(limit=2)
    for number in range(5):
        ring.add("tls-failed", f"pod {number}", "no certificate", NOW + number)

    document = ring.document()
    assert [event["object"] for event in document["events"]] == ["pod 3", "pod 4"]
    assert document["dropped"] == 3


def test_a_peer_cannot_fill_the_page() -> None:
    """A long message is cut, visibly."""
    ring = EventRing()
    ring.add("tls-failed", "pod", "x" * 100_000, NOW)

    message = ring.document()["events"][0]["message"]
    assert len(message) == MAX_MESSAGE_CHARACTERS + len("...")


def test_an_incident_is_an_event() -> None:
    """What a worker tells arrives with the worker's own time."""
    ring = EventRing()
    ring.incident(Incident(kind="tls-failed", object="p", message="m", time=0.0))

    assert ring.document() == {
        "events": [
            {
                "time": "1970-01-01T00:00:00.000Z",
                "kind": "tls-failed",
                "object": "p",
                "message": "m",
            }
        ],
        "dropped": 0,
    }
