"""The configuration of a lab's agents."""

from __future__ import annotations

from tests.lab.node import merged


def test_settings_are_merged_by_section() -> None:
    """A test changes one key of a section and keeps the others."""
    base = {"workers": 1, "log": {"level": "info", "format": "json"}}
    over = {"log": {"level": "debug"}, "limits": {"tunnel_streams": 2}}
    assert merged(base, over) == {
        "workers": 1,
        "log": {"level": "debug", "format": "json"},
        "limits": {"tunnel_streams": 2},
    }
    assert base["log"] == {"level": "info", "format": "json"}
