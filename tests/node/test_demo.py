"""Each step of the demo holds; it is the same code that `./run demo` shows."""

from __future__ import annotations

import pytest

from tests.demo.report import Notes
from tests.demo.script import STEPS, Step
from tests.demo.stage import Stage


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [step for _, step in STEPS], ids=[name for name, _ in STEPS]
)
def test_step(world: Stage, step: Step) -> None:
    """Every fact that the step looked at was as promised."""
    notes = Notes()
    step(world, notes)

    assert notes.facts
    assert not [fact.text for fact in notes.facts if not fact.held]
