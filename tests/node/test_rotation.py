"""Every authority is replaced under traffic; it is the code that the demo shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo.report import Notes
from tests.demo.rotation.steps import STEPS
from tests.demo.rotation.world import Effort, World, built
from tests.lab.topology import random_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rotating() -> Iterator[World]:
    with built(random_run(), Effort(watch_seconds=1.0)) as world:
        yield world


@pytest.mark.parametrize(
    "step", [step for _, step in STEPS], ids=[name for name, _ in STEPS]
)
def test_step(rotating: World, step: object) -> None:
    """Every fact that the step looked at was as promised."""
    notes = Notes()
    assert callable(step)
    step(rotating, notes)

    assert notes.facts
    assert not [fact.text for fact in notes.facts if not fact.held]
