"""All of it together: warm up, count, load and change, be quiet, count again."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import httpx

from tests.lab.capture import TUNNEL_PORT, WireTap
from tests.patience import patient
from tests.soak import held, inventory, memory
from tests.soak.changes import Changes
from tests.soak.denied import Denied
from tests.soak.faults import Fault
from tests.soak.injector import Injector
from tests.soak.inventory import Counts
from tests.soak.ledger import Ledger, Total
from tests.soak.load import Load
from tests.soak.memory import Verdict
from tests.soak.plan import Limits
from tests.soak.world import IDLE_TUNNEL_SECONDS, World

TICK_SECONDS: Final = 0.1
# After the clients have ended: until tunnels are closed and counts are as before.
QUIET_SECONDS: Final = IDLE_TUNNEL_SECONDS + patient(40.0)
# Longer than an idle tunnel is kept, and than a renewed certificate takes.
SETTLE_SECONDS: Final = 2 * IDLE_TUNNEL_SECONDS
REST_SECONDS: Final = 0.5
# What the last connections may take after no more are opened.
DRAIN_SECONDS: Final = patient(180.0)
ERROR_LEVELS: Final = ("error", "critical")


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how much; a soak by default, less for a test."""

    seconds: float
    seed: int
    lanes: int = 8
    warm_up_seconds: float = 4.0
    sample_seconds: float = 10.0
    limits: Limits = field(default_factory=Limits)
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a soak found: it held without differences, leaks and growing memory."""

    effort: Effort
    seconds: float
    totals: dict[str, Total]
    differences: list[str]
    difference_count: int
    nameless_resets: int
    policy_changes: int
    revoked_live: int
    slowest_revocation: float
    certificates: int
    before: Counts
    after: Counts
    kept: dict[str, dict[str, int]]
    """What processes with a leak hold more of, by what it is."""
    memory: list[Verdict]
    samples: dict[str, list[int]]
    faults: list[str] = field(default_factory=list)
    """Those that were injected, in order."""
    denied: int = 0
    """How often what is denied was asked for; served, it is a difference."""

    @property
    def leaks(self) -> dict[str, int]:
        """
        What there is more of than before, and how much more.

        A connection that begins while there is no agent leaves its destination in a map
        of the kernel (LRU), which the next agent empties once: one a fault may stay.
        """
        grown = inventory.grown(self.before, self.after)
        left = len(self.faults)
        return {
            name: more
            for name, more in grown.items()
            if not (name.endswith("map originals") and more <= left)
        }

    @property
    def held(self) -> bool:
        """Whether everything was as promised."""
        swollen = [each for each in self.memory if each.flat is False]
        return not (self.difference_count or self.leaks or swollen)


@dataclass(frozen=True, slots=True)
class Progress:
    """How it stands, for whoever watches."""

    phase: str
    elapsed: float
    connections: int
    received_bytes: int
    differences: int
    policy_changes: int
    certificates: int
    memory: Counts
    found: list[str]
    """The differences since the last time, as far as they are told."""


Watch = Callable[[Progress], None]


@dataclass(slots=True)
class Soak:
    """One run over a world that is ready."""

    world: World
    effort: Effort
    watch: Watch
    load: Load = field(init=False)
    ledger: Ledger = field(init=False)
    changes: Changes = field(init=False)
    injector: Injector = field(init=False)
    denied: Denied = field(init=False)
    _began: float = 0.0
    _pids: dict[str, int] = field(default_factory=dict)
    _samples: dict[str, list[int]] = field(default_factory=dict)
    _certificates: set[str] = field(default_factory=set)
    _next_sample: float = 0.0
    _told: int = 0

    def __post_init__(self) -> None:
        seed, limits = self.effort.seed, self.effort.limits
        totals = {path.name: Total() for path in self.world.paths}
        self.load = Load(self.world, seed, limits)
        self.ledger = Ledger(seed, limits, totals)
        chance = random.Random(seed)
        self.changes = Changes(self.world, chance, self.ledger.revocations)
        self.injector = Injector(
            self.world,
            random.Random(seed + 1),
            self.effort.faults,
            self.ledger.differ,
            self.ledger.disturbances,
        )
        self.denied = Denied(self.world)

    def run(self) -> Outcome:
        """From warm-up to the counts after it."""
        self._began = time.monotonic()
        self.load.serve()
        self.denied.serve()
        # What is made once (pools of threads, caches) is made before it is counted.
        self._phase("warm-up", self.effort.warm_up_seconds, change=False)
        before = self._settled()
        self._pids = self._processes()
        descriptors = held.held(self._pids)
        with self.denied, _watched(self.world, self.ledger.differ):
            self._phase("load", self.effort.seconds, change=True)
        for each in self.denied.served:
            self.ledger.differ(f"served past a deny: {each}")
        after = self._quiet(before)
        kept = held.more(descriptors, held.held(self._processes()))
        self._look_back()
        self.ledger.finish()
        return self._outcome(before, after, kept)

    def _phase(self, name: str, seconds: float, *, change: bool) -> None:
        """Load for some seconds, until the last connection of it has ended."""
        self._next_sample = time.monotonic()
        until = time.monotonic() + seconds
        self.load.begin(seconds, self.effort.lanes)
        while self.load.running:
            time.sleep(TICK_SECONDS)
            loading = time.monotonic() < until
            if change:
                self._change(loading=loading)
            self._gather()
            if loading and time.monotonic() >= self._next_sample:
                self._next_sample += self.effort.sample_seconds
                self._sample(name)
            if time.monotonic() > until + DRAIN_SECONDS:
                self.ledger.differ("clients of the load did not come to an end")
                break
        if change:
            self.injector.settle()
            self.changes.settle()
        for line in self.load.fallen():
            self.ledger.differ(line)

    def _change(self, *, loading: bool) -> None:
        """A change of policy or a fault, never both: each is judged by itself."""
        if not loading:
            self.injector.settle()
            self.changes.settle()
        elif self.injector.is_active:
            self.injector.turn()
        elif self.changes.is_permitted and self.effort.faults:
            self.injector.turn()
            if not self.injector.is_active:
                self.changes.turn()
        else:
            self.changes.turn()

    def _gather(self) -> None:
        for report in self.load.drained():
            self.ledger.take(report)

    def _settled(self) -> Counts:
        """What there is when the tunnels of the warm-up have gone."""
        self._rest(SETTLE_SECONDS)
        counts = inventory.taken(self.world)
        until = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < until:
            self._rest(REST_SECONDS)
            counts = inventory.least(counts, inventory.taken(self.world))
        return counts

    def _quiet(self, before: Counts) -> Counts:
        """What there is when all is over: as `before`, if it comes to that in time."""
        deadline = time.monotonic() + QUIET_SECONDS
        counts = inventory.taken(self.world)
        while inventory.grown(before, counts) and time.monotonic() < deadline:
            self._rest(REST_SECONDS)
            counts = inventory.least(counts, inventory.taken(self.world))
        return counts

    def _rest(self, seconds: float) -> None:
        time.sleep(seconds)
        self._gather()

    def _processes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for agent in self.world.agents.values():
            found.update(inventory.processes(agent))
        return found

    def _sample(self, phase: str) -> None:
        weighed = inventory.memory(self._pids)
        for name, size in weighed.items():
            self._samples.setdefault(name, []).append(size)
        self._note_certificates()
        progress = Progress(
            phase,
            time.monotonic() - self._began,
            self.ledger.connections,
            self.ledger.received_bytes,
            self.ledger.count,
            self.changes.made,
            len(self._certificates),
            weighed,
            self.ledger.differences[self._told :],
        )
        self._told = len(self.ledger.differences)
        self.watch(progress)

    def _note_certificates(self) -> None:
        for agent in self.world.agents.values():
            # An agent may be late to answer, or not be there: the next sample asks.
            with contextlib.suppress(httpx.HTTPError, OSError):
                for each in agent.ask("certificates")["certificates"]:
                    if each["serial"]:
                        self._certificates.add(each["serial"])

    def _look_back(self) -> None:
        """Workers that died, and errors in the agents' logs, are differences too."""
        self._gather()
        if self.effort.faults:
            return  # processes were killed, and their ends are in the logs
        for name, pid in self._processes().items():
            if self._pids.get(name) != pid:
                self.ledger.differ(f"{name} was started again")
        for node, agent in self.world.agents.items():
            for line in agent.log.read_text().splitlines():
                if _is_error(line):
                    self.ledger.differ(f"log of {node}: {line[:400]}")

    def _outcome(
        self, before: Counts, after: Counts, kept: dict[str, dict[str, int]]
    ) -> Outcome:
        verdicts = [memory.judged(name, sizes) for name, sizes in self._samples.items()]
        ledger = self.ledger
        return Outcome(
            effort=self.effort,
            seconds=time.monotonic() - self._began,
            totals=ledger.totals,
            differences=ledger.differences,
            difference_count=ledger.count,
            nameless_resets=ledger.nameless_resets,
            policy_changes=self.changes.made,
            revoked_live=ledger.revoked_live,
            slowest_revocation=ledger.slowest_revocation,
            certificates=len(self._certificates),
            before=before,
            after=after,
            kept=kept,
            memory=verdicts,
            samples=self._samples,
            faults=self.injector.history,
            denied=self.denied.asked,
        )


@contextlib.contextmanager
def _watched(world: World, differ: Callable[[str], None]) -> Iterator[None]:
    """Every frame between pods is on the tunnel's port, but on paths in plaintext."""
    plain = {path.port for path in world.paths if path.plaintext}
    ports = " and ".join(f"not port {port}" for port in (TUNNEL_PORT, *sorted(plain)))
    tap = WireTap(world.lab, "soak", expression=f"tcp and {ports}")
    with tap:
        yield
    for line in tap.read().faults():
        differ(f"on the wire: {line}")


def _is_error(line: str) -> bool:
    """Whether a line of a log tells of an error; what is no JSON is a traceback."""
    try:
        return json.loads(line).get("level") in ERROR_LEVELS
    except ValueError:
        return True
