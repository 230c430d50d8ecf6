"""
Writes marks and Events, beside everything else: control never waits for it.

A mark is tried until it is right. An Event is for people: one try, and what does not
fit into the queue is counted and dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, Protocol

import msgspec
import trio

from agent.kube.client import ApiFailed
from agent.kube.failure import FailureKind, pause_seconds
from agent.kube.marks import MERGE_PATCH, EventType, Mark, differences, event_document
from agent.log import logger
from agent.workload.model import Workload

log = logger()

MAX_EVENTS: Final = 1000
# Events of one node in a second; a rollout tells of each pod, a storm of a part.
EVENTS_PER_SECOND: Final = 20
# What was written and has not come back by the watch after this long is written again.
ECHO_SECONDS: Final = 30.0
# The pod is gone, or another has its name: 409, or 422 since a uid never changes.
GONE: Final = frozenset({FailureKind.ABSENT, FailureKind.CONFLICT, FailureKind.INVALID})


class Writer(Protocol):
    """What is asked of a client."""

    async def send(self, method: str, path: str, body: bytes, kind: str = ...) -> bytes:
        """Raises: ApiFailed."""


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
    ) -> None:
        """`own_pods`: this node's pods, as they are known now."""
        self._api = api
        self._node = node
        self._own_pods = own_pods
        self._chance = chance
        self._clock = clock
        self._captured: frozenset[str] = frozenset()
        self._wanted: frozenset[str] = frozenset()
        self._is_told = False
        self._changed = trio.Event()
        self._written: dict[str, tuple[Mark, float]] = {}
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
        attempt = 0
        while True:
            failed = await self._write_marks() if self._is_told else None
            if failed is None:
                attempt, self.fault = 0, ""
                await self._changed.wait()
                self._changed = trio.Event()
                continue
            if str(failed) != self.fault:
                log.warning("marks not written", reason=str(failed))
            self.fault = str(failed)
            await trio.sleep(pause_seconds(failed.failure, attempt, self._chance()))
            attempt += 1

    async def _write_marks(self) -> ApiFailed | None:
        """Write all that differ; the last failure, if one is to be tried again."""
        last: ApiFailed | None = None
        pods = list(self._own_pods())
        marks = differences(pods, self._captured, self._wanted)
        wrong = {mark.uid: mark for mark in marks}
        # The watch has told of these; the others are on their way back to us.
        oldest = trio.current_time() - ECHO_SECONDS
        self._written = {
            uid: (mark, at)
            for uid, (mark, at) in self._written.items()
            if wrong.get(uid) == mark and at > oldest
        }
        for mark in marks:
            if mark.uid in self._written:
                continue
            try:
                await self._api.send("PATCH", mark.path, mark.body, MERGE_PATCH)
            except ApiFailed as error:
                if error.failure.kind not in GONE:
                    last = error
                    continue
            self._written[mark.uid] = (mark, trio.current_time())
        return last

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
