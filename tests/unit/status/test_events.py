"""A flood of events costs neither memory nor the count of them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from agent.status.events import (
    GROUP_SECONDS,
    KINDS,
    MAX_MESSAGE_CHARACTERS,
    EventRing,
)
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


class TestOneCause:
    """The tunnels that one restart breaks are one event."""

    def test_like_ones_add_to_the_first(self) -> None:
        ring = EventRing()
        for number in range(20):
            name = f"shop/p{number % 3}"
            ring.add("tunnel-broken", name, "tunnel from 10.0.0.1: reset", 100.0)
        (event,) = ring.document()["events"]
        assert event["object"] == "shop/p0"
        assert event["message"] == (
            "tunnel from 10.0.0.1: reset (and 19 more, of shop/p1, shop/p2)"
        )

    def test_another_reason_is_another(self) -> None:
        """A peer that breaks a rule is not hidden by those that only went away."""
        ring = EventRing()
        for reason in ("reset", "reset", "header list: too large"):
            ring.add("tunnel-broken", "a", f"tunnel from 10.0.0.1: {reason}", 100.0)
        messages = [event["message"] for event in ring.document()["events"]]
        assert len(messages) == 2
        assert messages[1].endswith("too large")

    def test_later_ones_are_another(self) -> None:
        ring = EventRing()
        ring.add("tunnel-broken", "a", "m", 100.0)
        ring.add("tunnel-broken", "a", "m", 100.0 + GROUP_SECONDS + 0.1)
        assert len(ring.document()["events"]) == 2

    def test_other_kinds_stand_for_themselves(self) -> None:
        ring = EventRing()
        for _ in range(3):
            ring.add("captured", "a", "m", 100.0)
            ring.add("tunnel-broken", "a", "m", 100.0)
        kinds = [event["kind"] for event in ring.document()["events"]]
        assert sorted(kinds) == ["captured"] * 3 + ["tunnel-broken"]

    @given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 60)), max_size=40))
    def test_none_is_lost(self, told: list[tuple[str, float]]) -> None:
        """What is not an event of its own is counted in one."""
        ring = EventRing()
        for kind, now in sorted(told, key=lambda each: each[1]):
            ring.add(kind, "a", "m", now)
        counted = 0
        for event in ring.document()["events"]:
            more = re.search(r"and (\d+) more", event["message"])
            counted += 1 + int(more.group(1) if more else 0)
        assert counted == len(told)
