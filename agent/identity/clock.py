"""Wall-clock time, by which certificates end (trio sleeps by another), and chance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from typing import Final

import trio

Clock = Callable[[], datetime]
Chance = Callable[[], float]

# The wall clock can jump (NTP, a suspended laptop), and no sleep notices; so none
# is longer than this.
LONGEST_SLEEP: Final = timedelta(seconds=60)

_RANDOM: Final = SystemRandom()


def utc_now() -> datetime:
    """The wall clock, aware UTC."""
    return datetime.now(UTC)


def chance() -> float:
    """Any number from 0 to 1: the jitter of whoever is not a test."""
    return _RANDOM.random()


async def sleep_until(moment: datetime, clock: Clock) -> None:
    """Return once `clock` shows `moment` or later; always a checkpoint."""
    await trio.lowlevel.checkpoint()
    while True:
        left = moment - clock()
        if left <= timedelta(0):
            return
        await trio.sleep(min(left, LONGEST_SLEEP).total_seconds())
