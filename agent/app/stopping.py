"""SIGTERM and SIGINT end a process in order."""

from __future__ import annotations

import signal

import trio

from agent.log import logger

log = logger()


async def until_signalled(scope: trio.CancelScope) -> None:
    """Cancel `scope` at the first SIGTERM or SIGINT."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
            return
