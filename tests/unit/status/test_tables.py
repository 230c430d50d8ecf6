"""Words, sizes and ages, and text that cannot play tricks on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.status.tables import plain, size, span, when

from .samples import NOW


class TestPlain:
    @given(st.text())
    def test_any_text_is_printable(self, text: str) -> None:
        """No control sequence of a peer's reaches the terminal."""
        assert plain(text).isprintable()


class TestNumbers:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (2e5, "2d")],
    )
    def test_span(self, seconds: float, text: str) -> None:
        """The largest whole unit."""
        assert span(seconds) == text

    @pytest.mark.parametrize(
        ("count", "text"),
        [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**28, "256.0 MiB")],
    )
    def test_size(self, count: int, text: str) -> None:
        """Powers of 1024, by their names."""
        assert size(count) == text

    def test_when(self) -> None:
        """Past, future and never."""
        assert when("2026-01-02T03:03:05.678Z", NOW) == "1m ago"
        assert when("2026-01-02T05:04:06.678Z", NOW) == "in 2h"
        assert when(None, NOW) == "-"
