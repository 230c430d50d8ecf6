"""
Steps of tasks that need the thread for long: a part of a handshake, a decision.

trio runs all tasks that can run before it looks at a socket again: a thousand
handshakes of one peer would be a second. So such a step is made inside `turn`. A
millisecond of them is made at once; the others wait until the sockets have had the
thread, and then the account that owes least is next. Uncontended, a turn costs nothing
and does not yield.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from agent.proxy.share import Account

# Steps that are made before the sockets have the thread.
STEPS_SECONDS: Final = 1e-3


class Turns:
    """The queue for one worker's thread; `run` in one task, for as long as it."""

    def __init__(self) -> None:
        self._left = STEPS_SECONDS
        self._used_up = trio.Event()
        self._waiting: dict[Account, trio.lowlevel.ParkingLot] = {}

    @asynccontextmanager
    async def turn(self, account: Account) -> AsyncIterator[None]:
        """Wait for the thread; the block must not wait. Its time is the account's."""
        if self._waiting or self._left <= 0:
            await self._wait(account)
        began = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            account.charge(now - began, now)
            self._left -= now - began
            if self._left <= 0:
                self._used_up.set()
            else:
                self._grant(now)

    async def run(self) -> None:
        """Forever: let those who wait go on, a few after each look at the sockets."""
        while True:
            await self._used_up.wait()
            await trio.lowlevel.checkpoint()
            self._left, self._used_up = STEPS_SECONDS, trio.Event()
            self._grant(time.monotonic())

    async def _wait(self, account: Account) -> None:
        lot = self._waiting.setdefault(account, trio.lowlevel.ParkingLot())
        try:
            await lot.park()
        finally:
            if not lot and self._waiting.get(account) is lot:
                del self._waiting[account]

    def _grant(self, now: float) -> None:
        """Let the account go on that owes least."""
        waiting = [account for account, lot in self._waiting.items() if lot]
        if waiting:
            least = min(waiting, key=lambda each: each.owed(now))
            self._waiting[least].unpark()
