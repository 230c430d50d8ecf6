"""
One task a resource: asks what the watch machine says, waits as the failure says.

Nothing ends it but cancellation. Whatever goes wrong, what was heard last stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from agent.kube.client import ApiFailed, Query
from agent.kube.discovery import Discovery
from agent.kube.failure import Failure, FailureKind, pause_seconds
from agent.kube.resources import Resource, Served
from agent.kube.watch import (
    MAX_PAGE_BYTES,
    Event,
    Failed,
    Listed,
    ListRequest,
    Removed,
    Stored,
    Watch,
    WatchRequest,
)
from agent.log import logger

log = logger()

# A watch that ends sooner than this, and told nothing, is a fault and not a turn.
SHORTEST_WATCH_SECONDS: Final = 1.0

News = Listed | Stored | Removed


class Api(Protocol):
    """What is asked of a client."""

    async def get(self, path: str, query: Query = (), limit: int = ...) -> bytes:
        """Raises: ApiFailed."""

    def stream(
        self, path: str, query: Query, seconds: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Raises: ApiFailed, also while the chunks are read."""


@dataclass(slots=True)
class Health:
    """
    How a resource stands: `failure` is the present one, since Unix time `since`.

    `is_missing`: the server has no such kind; then there are no such objects.
    `attempts` in a row that came to nothing; a list that no watch follows is one.
    """

    failure: Failure | None = None
    since: float = 0.0
    is_missing: bool = False
    attempts: int = 0


@dataclass(slots=True, eq=False)
class Reflector:
    """Keeps whoever listens current about one resource."""

    api: Api
    resource: Resource
    tell: Callable[[News, Served], str | None]
    """
    An event of the watch, and as what kind it was served; the answer is why a list is
    not believed, and asked for again.
    """
    tell_missing: Callable[[], None]
    tell_health: Callable[[], None]
    chance: Callable[[], float]
    clock: Callable[[], float]
    discovery: Discovery
    """One for all reflectors of a server."""
    health: Health = field(default_factory=Health)
    _served: Served | None = None
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = Watch(self.resource.selectors)

    async def run(self) -> None:
        """For ever."""
        while True:
            began = trio.current_time()
            failure = await self._turn()
            if failure is None:
                self._recovered()
                continue
            pause = pause_seconds(failure, self.health.attempts, self.chance())
            if failure.kind is FailureKind.AWAY and self.health.attempts:
                # As for every dependency: from the start of the request. A watch that
                # breaks after minutes is the first failure, and has its whole pause.
                pause = max(0.0, pause - (trio.current_time() - began))
            self._failed(failure, pause)
            await trio.sleep(pause)

    async def _turn(self) -> Failure | None:
        """One request and what came of it."""
        try:
            if self._served is None:
                self._served = await self.discovery.find(self.resource.candidates)
            if self._served is None:
                return self._missing()
            match self._watch.next_request(self.chance()):
                case ListRequest(query):
                    return await self._list(self._served, query)
                case WatchRequest() as request:
                    return await self._follow(self._served, request)
        except ApiFailed as error:
            return self._after(error.failure)

    def _after(self, failure: Failure) -> Failure:
        self._watch.failed(failure)
        if failure.kind is FailureKind.ABSENT and self._served is not None:
            # Served in another version now, or not at all: look again, later.
            self._served = None
            self._watch.relist()
        return failure

    async def _list(self, served: Served, query: Query) -> Failure | None:
        body = await self.api.get(served.path, query, MAX_PAGE_BYTES)
        return self._take(self._watch.page(body), served)

    async def _follow(self, served: Served, request: WatchRequest) -> Failure | None:
        started = trio.current_time()
        async with self.api.stream(
            served.path, request.query, request.seconds
        ) as chunks:
            self._recovered()
            before = self._watch.position
            async for chunk in chunks:
                for event in self._watch.receive(chunk):
                    failure = self._take(event, served)
                    if failure is not None:
                        return failure
                if self._watch.position != before:
                    self.health.attempts = 0
        self._watch.ended()
        if trio.current_time() - started >= SHORTEST_WATCH_SECONDS:
            self.health.attempts = 0
        elif self._watch.position == before:
            return Failure(FailureKind.AWAY, "the watch ended before it told anything")
        return None

    def _take(self, event: Event, served: Served) -> Failure | None:
        if isinstance(event, Failed):
            return event.failure
        doubt = self.tell(event, served)
        if doubt is None or not isinstance(event, Listed):
            return None
        self._watch.relist()
        return Failure(FailureKind.DOUBTFUL, doubt)

    def _missing(self) -> Failure:
        names = ", ".join(served.title for served in self.resource.candidates[:1])
        if self.resource.optional:
            self.health.is_missing = True
            self.tell_missing()
        return Failure(FailureKind.ABSENT, f"{names} is not installed")

    def _failed(self, failure: Failure, pause: float) -> None:
        health = self.health
        known = health.failure is not None and health.failure.kind is failure.kind
        if not known:
            health.since = self.clock()
            level = log.debug if health.is_missing else log.warning
            level(
                "watch failed",
                resource=self.resource.name,
                reason=str(failure),
                retry_seconds=round(pause, 1),
            )
        health.failure = failure
        health.attempts += 1
        self.tell_health()

    def _recovered(self) -> None:
        health = self.health
        if self._served is not None:
            health.is_missing = False
        if health.failure is not None:
            log.info("watch recovered", resource=self.resource.name)
            health.failure = None
            self.tell_health()
