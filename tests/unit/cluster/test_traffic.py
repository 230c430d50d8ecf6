"""What became of requests, and when a node had no agent, from recorded words."""

from __future__ import annotations

import json

import pytest

from tests.cluster import machine, traffic
from tests.cluster.absence import Absences
from tests.cluster.traffic import Path, Tally


def line(event: str, at: float, **facts: object) -> str:
    return json.dumps({"event": event, "at": at, **facts})


LOG = "\n".join(
    [
        line("second", 1, answered=10, failed=0),
        line("second", 2, answered=19, failed=1),
        line("failed", 1.5, why="refused"),
        line("failed", 2.5, why="refused"),
        line("second", 3, answered=28, failed=2),
        "Traceback: this is no line of ours",
        line("second", 9, answered=80, failed=2),
    ]
)


def test_a_tally_is_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told before and after does not count, and each reason is told once."""
    monkeypatch.setattr(machine, "kubectl", lambda *_: LOG)
    found = traffic.tallies(1.0, 3.0)
    assert found[0] == Tally(Path(1, 1), 18, 2, ("refused",))
    assert traffic.tallies(4.0, 5.0)[0] == Tally(Path(1, 1), 0, 0)


def test_a_node_is_touched_at_both_ends() -> None:
    """Where no agent of a node has a part in it, nothing may fail."""
    touched = {str(path) for path in traffic.PATHS if path.touches(2)}
    assert touched == {"node1 to node2", "node2 to node1", "node2 to node2"}


def test_absences_begin_and_end_with_what_is_told() -> None:
    """Each by the first look that saw it."""
    absences = Absences()
    absences._ready[1] = [(1, True), (2, False), (3, False), (4, True), (5, True)]
    assert absences.of(1) == [(2, 4)]
    assert absences.of(2) == []
