"""Documents keep their shape whatever is unknown."""

from __future__ import annotations

import typing

import pytest

from agent.status.documents import NAMES, Name, iso, iso_or_null

from .samples import NOW


def test_every_name_is_listed() -> None:
    """The list and the type are the same names."""
    assert typing.get_args(Name) == NAMES


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (NOW, "2026-01-02T03:04:05.678Z"),
        (253402300799.0, "9999-12-31T23:59:59.000Z"),
    ],
)
def test_times_are_utc(seconds: float, text: str) -> None:
    """Every time that a message can carry has an ISO 8601 form."""
    assert iso(seconds) == text
    assert iso_or_null(None) is None
