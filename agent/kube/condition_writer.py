"""
Writes conditions on policies, now and then, in a moment of each agent's own.

Of a thousand agents that find the same wrong, the first to wake up writes it, and the
others see it by their watch before their turn has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

import trio

from agent.kube.announcer import GONE, Advice, Writer
from agent.kube.client import ApiFailed
from agent.kube.conditions import Finding, correction
from agent.kube.marks import MERGE_PATCH
from agent.log import logger
from agent.policy.problem import Problem

log = logger()

# From the shortest to twice as much more, by chance.
PAUSE_SECONDS: Final = 10.0
WRITES_PER_SECOND: Final = 20


async def _no_advice() -> Sequence[Problem]:
    return ()


class ConditionWriter:
    """Keeps the status of policies true, as far as the API server lets us."""

    def __init__(
        self,
        api: Writer,
        findings: Callable[[], Iterable[Finding]],
        *,
        chance: Callable[[], float],
        clock: Callable[[], datetime],
    ) -> None:
        """`findings`: the policies, as the API server has them now."""
        self._api = api
        self._findings = findings
        self._chance = chance
        self._clock = clock
        self._problems: Sequence[Problem] | None = None
        self._advice: Advice = _no_advice
        self._advised: frozenset[Problem] = frozenset()
        self.fault = ""

    def judged(self, problems: Sequence[Problem]) -> None:
        """What is wrong with policies that can be read, by their titles."""
        self._problems = problems

    def advise(self, advice: Advice) -> None:
        """Who finds the policies without effect."""
        self._advice = advice

    async def run(self) -> None:
        """For ever."""
        while True:
            await trio.sleep(PAUSE_SECONDS * (1 + 2 * self._chance()))
            if self._problems is not None:
                await self._write(self._problems, await self._lasting_advice())

    async def _lasting_advice(self) -> list[Problem]:
        """What was found the last time too: pods come and go in a rollout."""
        found = await self._advice()
        before, self._advised = self._advised, frozenset(found)
        return [each for each in found if each in before]

    async def _write(
        self, problems: Sequence[Problem], advice: Sequence[Problem]
    ) -> None:
        wrong, idle = _by_title(problems), _by_title(advice)
        fault = ""
        for found in list(self._findings()):
            own, warnings = wrong.get(found.title, ()), idle.get(found.title, ())
            body = correction(found, own, self._clock(), warnings)
            if body is None:
                continue
            path = f"{found.standing.path}/status"
            try:
                await self._api.send("PATCH", path, body, MERGE_PATCH)
            except ApiFailed as error:
                # Gone, written meanwhile, or of a kind that has no status.
                if error.failure.kind not in GONE:
                    fault = str(error)
            await trio.sleep(1 / WRITES_PER_SECOND)
        if fault and fault != self.fault:
            log.warning("conditions not written", reason=fault)
        self.fault = fault


def _by_title(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.object, []).append(problem)
    return found
