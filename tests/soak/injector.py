"""Injects faults one after the other, and looks at what an operator would see."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from tests.demo.stage import captured
from tests.lab.node import Agent
from tests.patience import FACTOR, patient
from tests.soak import paths
from tests.soak.faults import Fault, Heal
from tests.soak.judge import Disturbance
from tests.soak.world import World

PAUSE_SECONDS: Final = (3.0, 8.0)
# Until all is well after a fault, and `check` says so.
WELL_SECONDS: Final = patient(60.0)
LOOK_SECONDS: Final = 1.0
CLEAN: Final = "nothing is wrong"


@dataclass(slots=True)
class Injector:
    """`turn` is called again and again; `settle` ends what there is."""

    world: World
    chance: random.Random
    faults: Sequence[Fault]
    differ: Callable[[str], None]
    record: list[Disturbance]
    history: list[str] = field(default_factory=list)
    _fault: Fault | None = None
    _agent: Agent | None = None
    _heal: Heal | None = None
    _now: Disturbance | None = None
    _began: float = 0.0
    _until: float = 0.0
    _next: float = 0.0
    _next_look: float = 0.0
    _reported: bool = False

    @property
    def is_active(self) -> bool:
        """Whether a fault lasts, or all is not well again yet."""
        return self._now is not None

    def turn(self) -> None:
        """Inject, look, heal, or wait."""
        now = time.monotonic()
        if self._now is None:
            if now >= self._next:
                self._inject()
        elif self._heal is None:
            self._recover()
        elif now >= self._until:
            self._end()
        else:
            self._look()

    def settle(self) -> None:
        """End the fault that lasts, and wait until all is well."""
        while self._now is not None:
            self._until = 0.0
            self.turn()
            time.sleep(0.1)

    def _inject(self) -> None:
        fault = self.chance.choice(list(self.faults))
        self._agent = self.world.agents[self.chance.choice(sorted(self.world.agents))]
        self._fault, self._reported = fault, False
        self.history.append(f"{fault.name} ({self._agent.node.name})")
        self._now = Disturbance(fault.name, time.monotonic(), slowness=FACTOR)
        self.record.append(self._now)
        self._heal = fault.inject(self.world, self._agent)
        self._began = time.monotonic()
        self._until = self._began + self.chance.uniform(*fault.seconds)

    def _look(self) -> None:
        """Is it reported in time?"""
        fault, agent, now = self._fault, self._agent, time.monotonic()
        assert fault is not None
        assert agent is not None
        if fault.reported_within is None or self._reported or now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        due = now >= self._began + fault.reported_within
        done = agent.command("check")
        if done.returncode != 0 and CLEAN not in done.stdout:
            self._reported = True
        elif due:
            self._reported = True  # once is enough
            self.differ(f"{self.history[-1]}: check says: {done.stdout.strip()}")

    def _end(self) -> None:
        assert self._heal is not None
        self._heal()
        self._heal = None
        self._until = time.monotonic() + WELL_SECONDS
        self._next_look = 0.0

    def _recover(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        wrong = self._wrong()
        if not wrong or now > self._until:
            if wrong:
                self.differ(f"{self.history[-1]}: not well again: {wrong}")
            assert self._now is not None
            self._now.until = time.monotonic()
            self._now = None
            self._next = now + patient(self.chance.uniform(*PAUSE_SECONDS))

    def _wrong(self) -> str:
        """What keeps it from being as before; "" for nothing."""
        for name, agent in self.world.agents.items():
            try:
                missing = set(paths.MESHED[name]) - captured(agent)
            except (httpx.HTTPError, OSError) as error:
                return f"{name}: no answer: {error}"
            if missing:
                return f"{name}: {', '.join(sorted(missing))} not captured"
            done = agent.command("check")
            if done.returncode != 0:
                return f"{name}: {(done.stdout or done.stderr).strip()}"
        return ""
