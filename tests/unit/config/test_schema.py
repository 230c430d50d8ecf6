"""The schema knows every key, and text becomes the value it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.schema import SCHEMA, SECTIONS, convert
from agent.config.settings import ConfigError, Seconds


def test_sections_are_not_settings() -> None:
    """A key is one or the other, and values with parts are settings."""
    assert not SECTIONS & set(SCHEMA)
    assert {"trust_domain", "authority.listen", "limits.drain_seconds"} <= set(SCHEMA)


def test_every_default_passes_its_own_check() -> None:
    """No default is one that we would refuse from a person."""
    for key, setting in SCHEMA.items():
        if isinstance(setting.default, int | float | str):
            assert convert(setting.kind, setting.default, Path(), exact=True) == (
                setting.default
            ), key


def test_numbers_are_text_only_where_there_is_nothing_else() -> None:
    """In YAML "3" is text, in the environment it is a number."""
    assert convert(Seconds, "3", Path(), exact=False) == 3.0
    with pytest.raises(ConfigError, match="expected float"):
        convert(Seconds, "3", Path(), exact=True)


def test_no_number_is_not_a_number() -> None:
    """NaN and infinity are no time to wait."""
    for text in ("nan", "inf", "-inf"):
        with pytest.raises(ConfigError):
            convert(Seconds, float(text), Path(), exact=True)
