"""Workers from control's side: fed alike, answered, and replaced when they hang."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from agent.app import outbox
from agent.app.workers import Told, WorkerProcess, Workers
from agent.config import resolve
from agent.proxy import instructions
from agent.proxy.channel import Channel
from agent.workload.connection import Pong, WorldWanted, encode
from agent.workload.delta import Snapshot

pytestmark = pytest.mark.slow

WORLD = instructions.WorldUpdated(Snapshot(7))
SECONDS = 10.0


class Played(Workers):
    """Workers whose processes are stopped from the start; the test plays them."""

    def __init__(self, count: int) -> None:
        self.heard: list[Told] = []
        self.faults: list[str | None] = []
        self.theirs: list[Channel] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        config = resolve({"workers": count, "limits": {"worker_timeout_seconds": 1}})
        super().__init__(config, self._told, self._answer, self._note)

    def _told(
        self,
    ) -> Iterator[tuple[instructions.Instruction, Sequence[int]]]:
        yield WORLD, ()

    def _answer(self, worker: WorkerProcess, message: Told) -> None:
        self.heard.append(message)
        if isinstance(message, WorldWanted):
            self.tell_world(worker, WORLD)

    def _note(self, worker: WorkerProcess) -> None:
        self.faults.append(worker.fault)

    def _spawn(self) -> tuple[subprocess.Popen[bytes], Channel]:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(["sleep", "60"])
        os.kill(process.pid, signal.SIGSTOP)
        self.processes.append(process)
        self.theirs.append(Channel(theirs))
        ours.setblocking(False)
        return process, Channel(ours)


@asynccontextmanager
async def running(count: int) -> AsyncIterator[Played]:
    """Started; ended in any case, with every process."""
    workers = Played(count)
    try:
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                await nursery.start(workers.run)
                yield workers
                for process in workers.processes:
                    process.kill()
                nursery.cancel_scope.cancel()
    finally:
        for process in workers.processes:
            process.kill()
            process.wait()
        for channel in workers.theirs:
            channel.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process or the kernel brings about."""
    while not holds():  # noqa: ASYNC110  (nobody sets an event for it)
        await trio.sleep(0.01)


async def told(
    channel: Channel,
) -> instructions.Start | instructions.Ping | instructions.Instruction:
    """What comes next; a ping is answered on the way, as a worker does."""
    while True:
        message = instructions.decode(await channel.receive())
        if not isinstance(message, instructions.Ping):
            return message
        await channel.send(encode(Pong(number=message.number)))


async def test_each_hears_the_same_and_the_whole_comes_first() -> None:
    """Start, the state, then what changes; a whole world again for who asks."""
    async with running(2) as workers:
        workers.broadcast(instructions.CountTraffic())
        for channel in workers.theirs:
            assert isinstance(await told(channel), instructions.Start)
            assert await told(channel) == WORLD
            assert await told(channel) == instructions.CountTraffic()
        asking, other = workers.theirs
        await asking.send(encode(WorldWanted(reason="a gap")))
        assert await told(asking) == WORLD
        workers.broadcast(instructions.CountTraffic())
        assert await told(other) == instructions.CountTraffic()


async def test_a_worker_runs_once_it_has_answered() -> None:
    """Not when its process exists: it has read nothing yet."""
    async with running(1) as workers:
        assert workers.running == 0
        (channel,) = workers.theirs
        for _ in range(2):
            await told(channel)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(told, channel)
            await until(lambda: workers.running == 1)
            nursery.cancel_scope.cancel()


async def test_one_that_stops_answering_is_killed() -> None:
    """SIGKILL ends a stopped process too, and another one takes its place."""
    async with running(1) as workers:
        (channel,) = workers.theirs
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, channel)
            await until(lambda: workers.running == 1)
            nursery.cancel_scope.cancel()
        await until(lambda: len(workers.processes) == 2)
        assert workers.processes[0].returncode == -signal.SIGKILL
        assert workers.faults == ["gave no sign of life for 1 s"]


async def read_all(channel: Channel) -> None:
    while True:
        await told(channel)


async def test_what_waits_for_one_that_does_not_read_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred megabytes are broadcast; it holds sixteen, and is replaced."""
    async with running(1) as workers:
        megabyte = bytes(1 << 20)
        monkeypatch.setattr("agent.app.workers.encode", lambda _: megabyte)
        box = workers.slots[0].outbox
        assert box is not None
        for _ in range(100):
            workers.broadcast(instructions.CountTraffic())
        assert box.waiting_bytes <= outbox.MAX_WAITING_BYTES + (2 << 20)
        await until(lambda: len(workers.processes) == 2)
        assert workers.processes[0].returncode == -signal.SIGKILL
        (fault,) = workers.faults
        assert fault is not None
        assert "messages that wait for it" in fault
