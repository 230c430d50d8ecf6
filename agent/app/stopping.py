"""SIGTERM and SIGINT end a process in order; SIGHUP changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from agent.log import logger

log = logger()

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def _nothing() -> None:
    """Nothing to do before the end."""


async def until_signalled(
    scope: trio.CancelScope, before: Callable[[], Awaitable[None]] = _nothing
) -> None:
    """
    At the first SIGTERM or SIGINT run `before`, then cancel `scope`; a second one does
    not wait for `before`.

    SIGHUP is logged and ignored: files are followed by themselves, and a terminal that
    closes must not leave pods without their agent.
    """
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            async for number in signals:
                if number == signal.SIGHUP:
                    log.info(
                        "SIGHUP ignored", reason="files are followed by themselves"
                    )
                    continue
                log.info("stopping", signal=signal.Signals(number).name)
                if nursery.child_tasks:
                    scope.cancel()
                nursery.start_soon(_finish, before, scope)


async def _finish(
    before: Callable[[], Awaitable[None]], scope: trio.CancelScope
) -> None:
    await before()
    scope.cancel()
