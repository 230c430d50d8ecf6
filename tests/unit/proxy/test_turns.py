"""Steps of tasks: a few at once, then the sockets, then who has used least."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from agent.proxy.share import Account
from agent.proxy.turns import STEPS_SECONDS, Turns


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Turns, trio.Nursery]]:
    turns = Turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        yield turns, nursery
        nursery.cancel_scope.cancel()


def work(seconds: float) -> None:
    """Keep the thread, as a handshake does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def steps(turns: Turns, account: Account, count: int, done: list[str]) -> None:
    for _ in range(count):
        async with turns.turn(account):
            work(STEPS_SECONDS * 1.1)
        done.append("step")


class TestTurns:
    async def test_one_alone_does_not_wait(self) -> None:
        turns = Turns()  # nobody runs it
        with trio.fail_after(1):
            async with turns.turn(Account()):
                pass

    async def test_the_sockets_come_between(self) -> None:
        """Of a hundred tasks that can run, none keeps another from its turn."""
        done: list[str] = []
        async with running() as (turns, nursery):
            for _ in range(50):
                nursery.start_soon(steps, turns, Account(), 1, done)
            most = before = 0
            with trio.fail_after(20):
                while len(done) < 50:
                    await trio.lowlevel.checkpoint()
                    most, before = max(most, len(done) - before), len(done)
        assert most <= 2

    async def test_who_has_used_least_is_next(self) -> None:
        """A newcomer does not wait behind a hundred handshakes of another."""
        greedy, modest = Account(), Account()
        greedy.charge(10.0, time.monotonic())
        done: list[str] = []
        async with running() as (turns, nursery):
            for _ in range(50):
                nursery.start_soon(steps, turns, greedy, 1, done)
            with trio.fail_after(20):
                while not done:
                    await trio.lowlevel.checkpoint()
                before = len(done)
                await steps(turns, modest, 1, [])
        assert len(done) - before <= 3

    async def test_who_gives_up_holds_nobody_up(self) -> None:
        done: list[str] = []
        async with running() as (turns, _):
            await steps(turns, Account(), 1, done)  # used up
            with trio.CancelScope() as scope:
                scope.cancel()
                await steps(turns, Account(), 1, done)
            with trio.fail_after(5):
                await steps(turns, Account(), 3, done)
        assert len(done) == 4
