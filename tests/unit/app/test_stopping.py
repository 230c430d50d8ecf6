"""Which signals end a process."""

from __future__ import annotations

import os
import signal

import trio
import trio.testing

from agent.app.stopping import until_signalled


async def test_sighup_changes_nothing_and_sigterm_ends() -> None:
    ended = trio.Event()

    async def before() -> None:
        ended.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_signalled, nursery.cancel_scope, before)
            await trio.testing.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGHUP)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not ended.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await ended.wait()
