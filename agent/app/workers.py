"""The proxy workers: started, fed, listened to, started again when one dies."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from agent.config import Config
from agent.errors import InputError, KernelError, PodlockError
from agent.log import logger
from agent.proxy.channel import Channel, ChannelClosed
from agent.proxy.instructions import Drain, Instruction, Start, encode
from agent.proxy.limits import ProxyLimits
from agent.workload.connection import Message as Told
from agent.workload.connection import decode

log = logger()

# A worker that dies again and again is started less and less often.
FIRST_PAUSE_SECONDS: Final = 0.2
LAST_PAUSE_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0


@dataclass(slots=True)
class Parcel:
    """
    An instruction and duplicates of the descriptors that go with it, for `shares`
    workers; the last one to have it closes them.
    """

    frame: bytes
    descriptors: tuple[int, ...] = ()
    shares: int = 1

    @classmethod
    def of(
        cls,
        message: Start | Instruction,
        descriptors: Sequence[int] = (),
        shares: int = 1,
    ) -> Parcel:
        """
        Duplicates, because the pod may be released before this is sent.

        Raises: KernelError when there are no descriptors left; none is leaked.
        """
        with contextlib.ExitStack() as undo:
            try:
                made = tuple(_duplicate(descriptor, undo) for descriptor in descriptors)
            except OSError as error:
                text = f"descriptors for a worker: {error.strerror}"
                raise KernelError(text) from error
            undo.pop_all()
        return cls(encode(message), made, shares)

    def close(self) -> None:
        """One worker less has it."""
        self.shares -= 1
        if not self.shares:
            for descriptor in self.descriptors:
                os.close(descriptor)


def _duplicate(descriptor: int, undo: contextlib.ExitStack) -> int:
    duplicate = os.dup(descriptor)
    undo.callback(os.close, duplicate)
    return duplicate


State = Callable[[], Iterable[tuple[Instruction, Sequence[int]]]]


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """One worker slot; the process in it may change."""

    index: int
    pid: int = 0
    started: float = 0.0
    restarts: int = -1
    outbox: trio.MemorySendChannel[Parcel] | None = None


Hear = Callable[[WorkerProcess, Told], None]
Died = Callable[[WorkerProcess], None]


class Workers:
    """All workers of this agent."""

    def __init__(self, config: Config, state: State, hear: Hear, died: Died) -> None:
        self._config = config
        self._state = state
        self._hear = hear
        self._died = died
        self.slots = [WorkerProcess(index) for index in range(config.worker_count)]
        self._draining = False
        self._all_ended = trio.Event()

    async def run(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep every worker alive until cancelled; ready when all have started once."""
        async with trio.open_nursery() as nursery:
            for slot in self.slots:
                await nursery.start(self._keep, slot)
            task_status.started()
        self._all_ended.set()

    def broadcast(self, message: Instruction, descriptors: Sequence[int] = ()) -> None:
        """
        Queue a message for every worker; one that starts later gets the state.

        Raises: KernelError, before any worker has it.
        """
        outboxes = [slot.outbox for slot in self.slots if slot.outbox is not None]
        if outboxes:
            parcel = Parcel.of(message, descriptors, len(outboxes))
            for outbox in outboxes:
                outbox.send_nowait(parcel)

    async def drain(self) -> None:
        """Let connections finish for `drain_seconds`; returns when all have ended."""
        self._draining = True
        seconds = self._config.limits.drain_seconds
        self.broadcast(Drain(seconds))
        with trio.move_on_after(seconds + STOP_SECONDS):
            await self._all_ended.wait()

    @property
    def running(self) -> int:
        """How many have a process right now."""
        return sum(slot.outbox is not None for slot in self.slots)

    async def _keep(
        self,
        slot: WorkerProcess,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._draining:
            began = time.monotonic()
            try:
                await self._live(slot, task_status)
            except (PodlockError, OSError) as error:  # no process to be had, say
                log.error("worker not started", worker=slot.index, error=str(error))
            else:
                task_status = trio.TASK_STATUS_IGNORED
            if time.monotonic() - began > LAST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            await self._mourn(slot, pause)
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    async def _mourn(self, slot: WorkerProcess, pause_seconds: float) -> None:
        """A worker that ends while draining did as it was told."""
        if not self._draining:
            self._died(slot)
            await trio.sleep(pause_seconds)

    async def _live(
        self, slot: WorkerProcess, task_status: trio.TaskStatus[None]
    ) -> None:
        """One process from start to end."""
        process, channel = self._spawn()
        slot.pid, slot.started = process.pid, time.time()
        slot.restarts += 1
        outbox, queue = trio.open_memory_channel[Parcel](math.inf)
        try:
            outbox.send_nowait(Parcel.of(self._start_of(slot)))
            for message, descriptors in self._state():
                outbox.send_nowait(Parcel.of(message, descriptors))
            slot.outbox = outbox
            task_status.started()
            async with trio.open_nursery() as nursery:
                # Whichever ends first ends the process: a worker that can not be told
                # of a policy is as bad as one that is gone.
                nursery.start_soon(_deliver, queue, channel, nursery.cancel_scope)
                await self._listen(slot, channel)
                nursery.cancel_scope.cancel()
        finally:
            slot.outbox = None
            _close(queue)
            channel.close()
            await _end(process)

    def _spawn(self) -> tuple[subprocess.Popen[bytes], Channel]:
        """
        Start a process.

        From this thread, not a helper's: the kernel sends PR_SET_PDEATHSIG when the
        *thread* that forked ends (prctl(2)).
        """
        ours, theirs = socket.socketpair()
        with theirs:
            log_settings = self._config.log
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "agent.app.worker",
                    str(theirs.fileno()),
                    str(self._config.redirect.pins),
                    log_settings.level,
                    log_settings.format,
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2],
            )
        ours.setblocking(False)
        return process, Channel(ours)

    def _start_of(self, slot: WorkerProcess) -> Start:
        limits = self._config.limits
        return Start(
            worker=slot.index,
            trust_domain=self._config.trust_domain,
            limits=ProxyLimits(
                connections_per_pod=limits.connections_per_pod,
                tunnel_streams=limits.tunnel_streams,
                connect_timeout_seconds=limits.connect_timeout_seconds,
                handshake_timeout_seconds=limits.handshake_timeout_seconds,
                idle_tunnel_seconds=limits.idle_tunnel_seconds,
            ),
        )

    async def _listen(self, slot: WorkerProcess, channel: Channel) -> None:
        while True:
            try:
                frame = await channel.receive()
            except ChannelClosed:
                return
            for line in frame.splitlines():
                try:
                    self._hear(slot, decode(line))
                except InputError as error:
                    log.error("a worker's message was not understood", error=str(error))


async def _deliver(
    queue: trio.MemoryReceiveChannel[Parcel],
    channel: Channel,
    scope: trio.CancelScope,
) -> None:
    async for parcel in queue:
        try:
            await channel.send(parcel.frame, parcel.descriptors)
        except ChannelClosed:
            scope.cancel()
        finally:
            parcel.close()


def _close(queue: trio.MemoryReceiveChannel[Parcel]) -> None:
    """Close what a dead worker will not get."""
    try:
        while True:
            queue.receive_nowait().close()
    except (trio.WouldBlock, trio.EndOfChannel):
        queue.close()


async def _end(process: subprocess.Popen[bytes]) -> None:
    """The channel is closed, which ends a worker; make sure that it did."""
    with trio.CancelScope(shield=True):
        try:
            await trio.to_thread.run_sync(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await trio.to_thread.run_sync(process.wait)
