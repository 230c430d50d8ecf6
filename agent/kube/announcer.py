"""
Writes marks and Events, beside everything else: control never waits for it.

A mark is tried until it is right, each pod's by itself: peers speak plaintext to a pod
without one, so it waits for no other that cannot have its own. An Event is for people:
one try, and what does not fit into the queue is counted and dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Final, Protocol

import msgspec
import trio

from agent.kube.client import ApiFailed
from agent.kube.failure import FailureKind, pause_seconds
from agent.kube.marks import MERGE_PATCH, EventType, Mark, differences, event_document
from agent.log import logger
from agent.policy.problem import Problem
from agent.workload.model import Workload

log = logger()

MAX_EVENTS: Final = 1000
# Events of one node in a second; a rollout tells of each pod, a storm of a part.
EVENTS_PER_SECOND: Final = 20
# What was written and has not come back by the watch after this long is written again.
ECHO_SECONDS: Final = 30.0
# The pod is gone, or another has its name: 409, or 422 since a uid never changes.
GONE: Final = frozenset({FailureKind.ABSENT, FailureKind.CONFLICT, FailureKind.INVALID})


@dataclass(frozen=True, slots=True)
class _Try:
    """A mark that was written, or could not be; its turn comes again at `again_at`."""

    mark: Mark
    again_at: float
    failures: int = 0
    fault: str = ""


Advice = Callable[[], Awaitable[Sequence[Problem]]]
"""Finds the policies that have no effect."""


class Writer(Protocol):
    """What is asked of a client."""

    async def send(self, method: str, path: str, body: bytes, kind: str = ...) -> bytes:
        """Raises: ApiFailed."""


def _ignore(_problems: object) -> None:
    """It is written nowhere."""


class Announcer:
    """Tells the API server which pods of this node are in the mesh."""

    def __init__(
        self,
        api: Writer,
        node: str,
        own_pods: Callable[[], Iterable[Workload]],
        *,
        chance: Callable[[], float],
        clock: Callable[[], datetime],
        judged: Callable[[Sequence[Problem]], None] = _ignore,
        advise: Callable[[Advice], None] = _ignore,
    ) -> None:
        """`own_pods`: this node's pods, as they are known now."""
        self._api = api
        self._node = node
        self._own_pods = own_pods
        self._chance = chance
        self._clock = clock
        self.judged = judged
        self.advise = advise
        self._captured: frozenset[str] = frozenset()
        self._wanted: frozenset[str] = frozenset()
        self._is_told = False
        self._changed = trio.Event()
        self._tries: dict[str, _Try] = {}
        self._events: deque[tuple[Workload, EventType, str, str]] = deque()
        self._queued = trio.Event()
        self.dropped_events = 0
        self.fault = ""

    def in_mesh(self, captured: Iterable[str], wanted: Iterable[str]) -> None:
        """These pods, by uid, are captured, and those are to be: no others."""
        self._captured, self._wanted = frozenset(captured), frozenset(wanted)
        self._is_told = True
        self._changed.set()

    def captured(self, pod: Workload, note: str) -> None:
        """A pod has joined the mesh."""
        self._queue(pod, "Normal", "MeshCaptured", note)

    def refused(self, pod: Workload, note: str) -> None:
        """A pod cannot join the mesh."""
        self._queue(pod, "Warning", "MeshRefused", note)

    def _queue(self, pod: Workload, kind: EventType, reason: str, note: str) -> None:
        if len(self._events) >= MAX_EVENTS:
            self.dropped_events += 1
            return
        self._events.append((pod, kind, reason, note))
        self._queued.set()

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_marks)
            nursery.start_soon(self._send_events)

    async def _keep_marks(self) -> None:
        while True:
            if self._is_told:
                await self._write_marks()
            again_at = min(
                (each.again_at for each in self._tries.values()), default=inf
            )
            with trio.move_on_at(again_at):
                await self._changed.wait()
            self._changed = trio.Event()

    async def _write_marks(self) -> None:
        """Write all that differ and whose turn it is; each fails by itself."""
        pods = list(self._own_pods())
        marks = differences(pods, self._captured, self._wanted)
        wrong = {mark.uid: mark for mark in marks}
        # The watch has told of these; the others are on their way back to us.
        self._tries = {
            uid: each
            for uid, each in self._tries.items()
            if wrong.get(uid) == each.mark
        }
        for mark in marks:
            before = self._tries.get(mark.uid)
            if before is None or trio.current_time() >= before.again_at:
                self._tries[mark.uid] = await self._try(mark, before)
        faults = (each.fault for each in self._tries.values() if each.fault)
        fault = next(faults, "")
        if fault and fault != self.fault:
            log.warning("marks not written", reason=fault)
        self.fault = fault

    async def _try(self, mark: Mark, before: _Try | None) -> _Try:
        try:
            await self._api.send("PATCH", mark.path, mark.body, MERGE_PATCH)
        except ApiFailed as error:
            # One that is here still, after a while, is not gone.
            if before is not None or error.failure.kind not in GONE:
                failures = before.failures if before else 0
                pause = pause_seconds(error.failure, failures, self._chance())
                again_at = trio.current_time() + pause
                return _Try(mark, again_at, failures + 1, str(error))
        return _Try(mark, trio.current_time() + ECHO_SECONDS)

    async def _send_events(self) -> None:
        while True:
            await self._queued.wait()
            while self._events:
                pod, kind, reason, note = self._events.popleft()
                await self._send(
                    pod.namespace,
                    event_document(pod, kind, reason, note, self._clock(), self._node),
                )
                await trio.sleep(1 / EVENTS_PER_SECOND)
            self._queued = trio.Event()

    async def _send(self, namespace: str, document: object) -> None:
        path = f"/api/v1/namespaces/{namespace}/events"
        try:
            await self._api.send("POST", path, msgspec.json.encode(document))
        except ApiFailed as error:
            self.dropped_events += 1
            log.debug("event not written", reason=str(error))
