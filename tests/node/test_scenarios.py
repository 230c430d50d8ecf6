"""The demo's other scenarios hold, step by step."""

from __future__ import annotations

import pytest

from tests.demo.migration import steps, world
from tests.demo.report import Notes
from tests.lab.topology import random_run

pytestmark = pytest.mark.slow


def test_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """From open to strict: nobody is refused who should not be."""
    monkeypatch.setattr(steps, "SETTLE_SECONDS", 0.5)
    with world.built(random_run()) as shop:
        for name, step in steps.STEPS:
            notes = Notes()
            step(shop, notes)
            assert notes.facts
            failed = [fact.text for fact in notes.facts if not fact.held]
            assert not failed, name
        assert shop.figures["refused_before_strict"] == 0
        assert shop.figures["others_refused"] == 0
