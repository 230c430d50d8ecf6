"""The factor of the tests' deadlines."""

from __future__ import annotations

import pytest

from tests import patience


@pytest.mark.parametrize(
    ("text", "factor"), [(None, 1.0), ("", 1.0), ("1", 1.0), ("7.5", 7.5)]
)
def test_what_it_means(text: str | None, factor: float) -> None:
    """Nothing set is a usual machine."""
    assert patience.read(text) == factor


@pytest.mark.parametrize("text", ["0.5", "0", "-1", "ten", "nan", "inf", "1e9"])
def test_what_it_may_not_be(text: str) -> None:
    """Less than 1 would make tests fail for nothing; without end they would hang."""
    with pytest.raises(ValueError, match=patience.VARIABLE):
        patience.read(text)


def test_deadlines_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many times as long; and load is as much less."""
    monkeypatch.setattr(patience, "FACTOR", 4.0)
    assert patience.patient(2.5) == 10.0
    assert patience.bearable(200.0) == 50.0
