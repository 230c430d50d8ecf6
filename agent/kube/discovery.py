"""
Which kinds an API server has, asked once for all who want to know.

A kind that is not there is looked for again and again, by each of its watchers; of a
thousand agents with seven kinds of policy that would be hundreds of requests a second.
An answer serves whoever asks soon after.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from agent.kube.client import ApiFailed, Query
from agent.kube.failure import Failure, FailureKind
from agent.kube.resources import (
    InvalidDiscovery,
    Served,
    parse_groups,
    parse_resources,
    possible,
)

READY_PATH: Final = "/readyz"
# No longer than the shortest pause after which a watcher asks again (failure.py): it
# never hears twice of one answer.
KEPT_SECONDS: Final = 30.0


class Asked(Protocol):
    """What is asked of a client."""

    async def get(self, path: str, query: Query = (), limit: int = ...) -> bytes:
        """Raises: ApiFailed."""


@dataclass(slots=True)
class _Told:
    """What a server told; `confirmed` once it had said that it is ready."""

    at: float
    groups: Mapping[str, frozenset[str]]
    confirmed: bool
    kinds: dict[str, frozenset[str]] = field(default_factory=dict)


class Discovery:
    """Finds kinds; for any number of tasks."""

    def __init__(self, api: Asked) -> None:
        self._api = api
        self._told: _Told | None = None
        self._turn = trio.Lock()

    async def find(self, candidates: Collection[Served]) -> Served | None:
        """
        The best candidate that the server has; None for sure if it has none.

        A server that starts answers before it knows its custom resources, so that one
        is believed to lack a kind only after it has said that it is ready. Raises:
        ApiFailed.
        """
        async with self._turn:
            told = self._told
            if told is None or trio.current_time() - told.at >= KEPT_SECONDS:
                told = await self._ask(confirmed=False)
            found = await self._find_in(told, candidates)
            if found is None and not told.confirmed:
                await self._require_ready()
                told = await self._ask(confirmed=True)
                found = await self._find_in(told, candidates)
            return found

    async def _ask(self, *, confirmed: bool) -> _Told:
        self._told = None
        try:
            groups = parse_groups(await self._api.get("/apis"))
        except InvalidDiscovery as error:
            raise _garbage(error) from error
        self._told = _Told(trio.current_time(), groups, confirmed)
        return self._told

    async def _find_in(
        self, told: _Told, candidates: Collection[Served]
    ) -> Served | None:
        for served in possible(candidates, told.groups):
            if served.home not in told.kinds:
                body = await self._api.get(served.home)
                try:
                    told.kinds[served.home] = parse_resources(body, served.home)
                except InvalidDiscovery as error:
                    raise _garbage(error) from error
            if served.plural in told.kinds[served.home]:
                return served
        return None

    async def _require_ready(self) -> None:
        """Raises: ApiFailed for a server that says that it is not ready."""
        try:
            await self._api.get(READY_PATH)
        except ApiFailed as error:
            # Something between us and the server may pass on the API alone.
            if error.failure.kind is not FailureKind.ABSENT:
                raise


def _garbage(error: InvalidDiscovery) -> ApiFailed:
    return ApiFailed(Failure(FailureKind.GARBAGE, str(error)))
