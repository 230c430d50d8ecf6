"""Trying again ends, and gets rarer on the way there."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from agent.proxy.patience import Patience


async def test_pauses_grow_and_end(autojump_clock: MockClock) -> None:
    """0.1, 0.2, 0.4, 0.8 and then every second, for ten seconds in all."""
    patience, began, at = Patience(10), trio.current_time(), []
    while await patience.pause():
        at.append(round(trio.current_time() - began, 1))
    assert at == [0.1, 0.3, 0.7, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5]


async def test_no_time_at_all() -> None:
    """Then there is no pause either."""
    assert not await Patience(0.05).pause()
