"""What the demo tells, and when it says yes."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from tests.demo.report import Notes, Report, Result


def result(*facts: bool) -> Result:
    """A step that saw these facts."""
    notes = Notes()
    notes.did("asked")
    for held in facts:
        notes.saw(f"a fact that is [{held}]", held)
    return Result("a step", notes, 1.25)


def test_one_fact_that_does_not_hold_fails_the_step() -> None:
    """Nine ticks do not outweigh a cross."""
    assert result(True, True).held
    assert not result(True, False).held


def test_a_step_that_saw_nothing_does_not_hold() -> None:
    """A check that did not run is no proof."""
    assert not result().held


def test_a_report_holds_when_every_step_does() -> None:
    """No step at all is no success either."""
    console = Console(file=io.StringIO())
    good, bad = result(True), result(False)
    assert not Report(console).held
    assert Report(console, [good]).held
    assert not Report(console, [good, bad]).held


def test_what_was_seen_is_printed_as_it_is() -> None:
    """Brackets of an IPv6 address are no markup; a cross marks what did not hold."""
    out = io.StringIO()
    report = Report(Console(file=out))
    report.add(result(True, False))
    report.conclude(2)
    said = out.getvalue()
    assert "✓ a fact that is [True]" in said
    assert "✗ a fact that is [False]" in said
    assert "0 of 1 steps hold, 2.0 s" in said


def test_the_same_as_data(tmp_path: Path) -> None:
    """Name, held, seen and seconds of each step, and what failed."""
    report = Report(Console(file=io.StringIO()))
    report.add(result(True, False))
    report.write(tmp_path / "demo.json", 3.0)
    document = json.loads((tmp_path / "demo.json").read_text())
    assert document["held"] is False
    assert document["steps"] == [
        {
            "name": "a step",
            "held": False,
            "did": ["asked"],
            "seen": ["a fact that is [True]", "a fact that is [False]"],
            "failed": ["a fact that is [False]"],
            "seconds": 1.25,
        }
    ]
