"""The proxy workers: started, fed, listened to, started again when one dies."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from agent.app.outbox import Outbox, Parcel
from agent.app.watchdog import Watch
from agent.config import Config
from agent.errors import InputError, PodlockError
from agent.log import logger
from agent.proxy.channel import Channel, ChannelClosed
from agent.proxy.instructions import (
    Drain,
    Instruction,
    Ping,
    Start,
    WorldUpdated,
    encode,
)
from agent.proxy.limits import ProxyLimits
from agent.workload.connection import (
    Message,
    Pong,
    TrustInstalled,
    WorldWanted,
    decode,
)

log = logger()

# A worker that dies again and again is started less and less often.
FIRST_PAUSE_SECONDS: Final = 0.2
LAST_PAUSE_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0


State = Callable[[], Iterable[tuple[Instruction, Sequence[int]]]]


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """
    One worker slot; the process in it may change.

    `outbox` is None where there is none; `serves` once it has read what it must know,
    and said so; `trust_version` is what it said is in force there; `fault` is why we
    ended the last one.
    """

    index: int
    pid: int = 0
    started: float = 0.0
    restarts: int = -1
    outbox: Outbox | None = None
    serves: bool = False
    trust_version: int | None = None
    fault: str | None = None


Told = Message | WorldWanted | TrustInstalled
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
        self._whole: tuple[WorldUpdated, bytes] | None = None
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
            parcel = Parcel.of(encode(message), descriptors, len(outboxes))
            for outbox in outboxes:
                outbox.put(parcel)

    def tell_world(self, slot: WorkerProcess, world: WorldUpdated) -> None:
        """The whole world for one worker, after what waits for it."""
        if slot.outbox is not None:
            slot.outbox.put(Parcel.of(self._encoded(world)))

    async def drain(self, then: Callable[[], None]) -> None:
        """
        Take no more connections, `then`, and let those that are there finish for
        `drain_seconds`; returns when all workers have ended.
        """
        self._draining = True
        seconds = self._config.limits.drain_seconds
        self.broadcast(Drain(seconds))
        then()
        with trio.move_on_after(seconds + STOP_SECONDS):
            await self._all_ended.wait()

    @property
    def trust_version(self) -> int:
        """The version of trust that all of them have in force; 0 for none."""
        versions = [slot.trust_version for slot in self.slots if slot.outbox]
        return min((version or 0 for version in versions), default=0)

    @property
    def running(self) -> int:
        """How many serve connections right now."""
        return sum(slot.serves for slot in self.slots)

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
        slot.pid, slot.started, slot.fault = process.pid, time.time(), None
        slot.restarts += 1
        outbox = Outbox()
        watch = Watch(self._config.limits.worker_timeout_seconds, trio.current_time())
        try:
            outbox.put(Parcel.of(encode(self._start_of(slot))))
            for message, descriptors in self._state():
                outbox.put(Parcel.of(self._encoded(message), descriptors))
            slot.outbox = outbox
            task_status.started()
            async with trio.open_nursery() as nursery:
                # Whichever ends first ends the process: a worker that can not be told
                # of a policy is as bad as one that is gone.
                scope = nursery.cancel_scope
                nursery.start_soon(_deliver, outbox, channel, watch, scope)
                nursery.start_soon(_watch, slot, outbox, watch, scope)
                await self._listen(slot, channel, watch)
                scope.cancel()
        finally:
            slot.outbox, slot.serves, slot.trust_version = None, False, None
            outbox.close()
            channel.close()
            await _end(process, slot)

    def _encoded(self, message: Instruction) -> bytes:
        """A whole world, which is large, once for all who get this one."""
        if not isinstance(message, WorldUpdated):
            return encode(message)
        if self._whole is None or self._whole[0] is not message:
            self._whole = message, encode(message)
        return self._whole[1]

    def forget_world(self) -> None:
        """The whole world changed: what was encoded is of no use any more."""
        self._whole = None

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
        limits, identity = self._config.limits, self._config.identity
        max_age = identity.connection_max_age_hours
        return Start(
            worker=slot.index,
            trust_domain=self._config.trust_domain,
            limits=ProxyLimits(
                connections_per_pod=limits.connections_per_pod,
                tunnel_streams=limits.tunnel_streams,
                connect_timeout_seconds=limits.connect_timeout_seconds,
                handshake_timeout_seconds=limits.handshake_timeout_seconds,
                idle_tunnel_seconds=limits.idle_tunnel_seconds,
                tunnel_max_age_seconds=math.inf if max_age is None else 3600 * max_age,
                control_timeout_seconds=limits.control_timeout_seconds,
                taint_deadline_seconds=identity.taint_deadline_seconds,
            ),
        )

    async def _listen(
        self, slot: WorkerProcess, channel: Channel, watch: Watch
    ) -> None:
        while True:
            try:
                frame = await channel.receive()
            except ChannelClosed:
                return
            for line in frame.splitlines():
                try:
                    told = decode(line)
                except InputError as error:
                    log.error("a worker's message was not understood", error=str(error))
                    continue
                if isinstance(told, Pong):
                    watch.answered(told.number)
                    slot.serves = True
                else:
                    self._hear(slot, told)


async def _deliver(
    outbox: Outbox, channel: Channel, watch: Watch, scope: trio.CancelScope
) -> None:
    while True:
        parcel = await outbox.take()
        try:
            await channel.send(parcel.frame, parcel.descriptors)
        except ChannelClosed:
            scope.cancel()
            return
        finally:
            parcel.close()
        watch.sent(parcel.ping, trio.current_time())


async def _watch(
    slot: WorkerProcess, outbox: Outbox, watch: Watch, scope: trio.CancelScope
) -> None:
    """Until the worker is hung: then say why, and end it."""
    while True:
        now = trio.current_time()
        if watch.tick(now):
            slot.fault = f"gave no sign of life for {watch.allowed_seconds:g} s"
        elif outbox.overflowed:
            slot.fault = f"did not take {outbox.waiting} messages that wait for it"
        if slot.fault is not None:
            scope.cancel()
            return
        number = watch.ping(now)
        if number is not None:
            outbox.put(Parcel(encode(Ping(number)), ping=number))
        await trio.sleep(watch.interval_seconds)


async def _end(process: subprocess.Popen[bytes], slot: WorkerProcess) -> None:
    """The channel is closed, which ends a worker that runs; make sure that it did."""
    with trio.CancelScope(shield=True):
        if slot.fault is not None:
            process.kill()  # also one that is stopped (signal(7))
        try:
            await trio.to_thread.run_sync(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await trio.to_thread.run_sync(process.wait)
