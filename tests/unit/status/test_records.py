"""A connection's record keeps its shape whatever is unknown."""

from __future__ import annotations

from agent.status.records import (
    Connection,
    closed_connection,
    opened_connection,
    refused_connection,
)
from agent.workload.connection import ConnectionClosed

from .samples import NOW, closed, opened, refused


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
