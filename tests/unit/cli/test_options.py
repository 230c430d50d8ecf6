"""Options come to a configuration, the later and nearer one winning."""

from __future__ import annotations

from datetime import timedelta

import click
import pytest

from agent.cli.options import Duration, read
from agent.config import ConfigError


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("30d", timedelta(days=30)),
    ],
)
def test_durations(text: str, length: timedelta) -> None:
    """A number and one unit."""
    assert Duration().convert(text, None, None) == length


def test_set_may_hold_an_equals_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first one separates."""
    monkeypatch.setattr("agent.config.sources.os.environ", {})

    assert str(read(None, ["run_dir=/a=b"]).run_dir) == "/a=b"


def test_set_without_a_value() -> None:
    """A setting without `=` is wrong usage, and an unknown key an error."""
    with pytest.raises(click.UsageError, match="expected KEY=VALUE"):
        read(None, ["node"])
    with pytest.raises(ConfigError, match="unknown key"):
        read(None, ["=x"])
