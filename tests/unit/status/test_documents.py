"""Documents keep their shape whatever is unknown."""

from __future__ import annotations

import typing

import pytest

from agent.status.documents import (
    NAMES,
    Connection,
    Name,
    closed_connection,
    iso,
    iso_or_null,
    opened_connection,
    refused_connection,
)
from agent.workload.connection import ConnectionClosed

from .samples import NOW, closed, opened, refused


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


def test_all_three_records_have_every_key() -> None:
    """A reader need not ask whether a key is there."""
    keys = set(Connection.__annotations__)
    before = opened_connection(opened())

    for record in (before, closed_connection(before, closed())):
        assert set(record) == keys
    assert set(refused_connection(refused())) == keys


def test_what_ended_a_connection_is_its_rule() -> None:
    """A connection that a policy ended names that policy, not the one before."""
    ended = ConnectionClosed(
        id="0-1", outcome="refused", closed=NOW, reason="changed", rule="Server s/x"
    )
    before = opened_connection(opened())

    assert closed_connection(before, ended)["rule"] == "Server s/x"
    assert closed_connection(before, closed())["rule"] == before["rule"]
