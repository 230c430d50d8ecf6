"""Windows never overflow, never leak, and give credit back before a stall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone.flow import (
    MAX_WINDOW_BYTES,
    FlowControlViolated,
    ReceiveWindow,
    SendWindow,
)


class TestSendWindow:
    def test_cannot_pass_its_limit(self) -> None:
        """Section 6.9.1: 2^31-1 is the most, and the peer's error beyond."""
        window = SendWindow(MAX_WINDOW_BYTES - 1)
        window.grow(1)

        with pytest.raises(FlowControlViolated):
            window.grow(1)

    def test_can_be_shrunk_below_zero(self) -> None:
        """Section 6.9.2: a SETTINGS change may, and it must be remembered."""
        window = SendWindow(10)
        window.take(10)
        window.grow(-6)
        window.grow(4)

        assert window.available == -2

    def test_gives_no_more_than_it_has(self) -> None:
        """Sending too much would be our fault, so it is not a PeerError."""
        with pytest.raises(ValueError, match="11 bytes"):
            SendWindow(10).take(11)


class TestReceiveWindow:
    def test_refuses_what_it_did_not_grant(self) -> None:
        """One byte more than the window."""
        window = ReceiveWindow(10)
        window.take(10)

        with pytest.raises(FlowControlViolated):
            window.take(1)

    def test_credit_comes_in_halves(self) -> None:
        """Nothing for less than half a window, everything once it is."""
        window = ReceiveWindow(10)
        window.take(9)

        assert [window.consumed(4), window.consumed(1), window.consumed(4)] == [0, 5, 0]
        assert window.held == 0

    @pytest.mark.parametrize("length", [-1, 4])
    def test_only_what_is_held_can_be_consumed(self, length: int) -> None:
        """More would grant credit out of nothing."""
        window = ReceiveWindow(10)
        window.take(3)

        with pytest.raises(ValueError, match="held"):
            window.consumed(length)

    @given(st.lists(st.integers(1, 100)))
    def test_a_sender_never_stalls(self, sizes: list[int]) -> None:
        """Whoever takes everything leaves more than half of the window open."""
        window, open_bytes = ReceiveWindow(100), 100
        for size in sizes:
            sent = min(size, open_bytes)
            window.take(sent)
            open_bytes += window.consumed(sent) - sent

            assert open_bytes > 50
            assert window.held == 0
