"""
What both ends of a connection do, from a seed and the connection's number alone.

Each end writes by its list of steps and reads at the same time, with pauses at certain
positions. When the steps are done it shuts its writing side down, reads to the end
and closes. Both ends make the same plan, so nothing but bytes travels between them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.soak.sequence import mixed

KIB: Final = 1 << 10
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Send:
    """Write so many bytes of the sequence."""

    count: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Write nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Await:
    """Write nothing before so many bytes in all have been read."""

    count: int


@dataclass(frozen=True, slots=True)
class AwaitEnd:
    """Write nothing before the other end has shut its writing side down."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Throw the connection away: SO_LINGER with zero seconds, and close."""


Step = Send | Pause | Await | AwaitEnd | Reset


@dataclass(frozen=True, slots=True)
class Stall:
    """Read nothing for a while, once so many bytes have been read."""

    position: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Side:
    """One end: what it writes, where its reading stalls, how much a read may take."""

    steps: tuple[Step, ...]
    stalls: tuple[Stall, ...] = ()
    read_bytes: int = 256 * KIB

    @property
    def total(self) -> int:
        """The bytes that it sends if nothing breaks the connection."""
        return sum(step.count for step in self.steps if isinstance(step, Send))


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole connection."""

    kind: str
    client: Side
    server: Side

    @property
    def resets(self) -> bool:
        """Whether one of the ends means to throw it away."""
        every = self.client.steps + self.server.steps
        return any(isinstance(step, Reset) for step in every)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large and how long a connection may be."""

    most_bytes: int = 8 * MIB
    longest_pause: float = 20.0


def connection_key(seed: int, path: str, number: int) -> int:
    """What tells this connection from all others of a run."""
    return mixed(seed, *path.encode(), number)


def planned(key: int, limits: Limits) -> Plan:
    """The plan of the connection with this key."""
    chance = random.Random(key)
    (kind,) = chance.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])
    plan = _KINDS[kind][1](chance, limits)
    if kind == "reset":
        plan = _torn(chance, plan)
    return Plan(kind, _reading(chance, plan.client), _reading(chance, plan.server))


def _size(chance: random.Random, most: int, least: int = 1) -> int:
    """Small ones as likely as large ones: the logarithm is even."""
    return min(most, int(least * math.pow(most / least, chance.random())))


def _sends(chance: random.Random, total: int) -> list[Step]:
    """`total` bytes in writes of very different sizes, with a pause here and there."""
    steps: list[Step] = []
    left = total
    while left:
        part = min(left, _size(chance, max(total, 64 * KIB), max(1, total // 16)))
        steps.append(Send(part))
        left -= part
        if chance.random() < 0.1:
            steps.append(Pause(chance.uniform(0, 0.1)))
    return steps


def _short(chance: random.Random, limits: Limits) -> Plan:
    """One question and one answer, or nothing at all."""
    question, answer = (chance.choice((0, _size(chance, 4 * KIB))) for _ in "qa")
    server = [Await(question), *_sends(chance, answer)]
    return Plan("", Side(tuple(_sends(chance, question))), Side(tuple(server)))


def _chat(chance: random.Random, limits: Limits) -> Plan:
    """Questions and answers in turn."""
    client: list[Step] = []
    server: list[Step] = []
    asked = answered = 0
    for _ in range(chance.randint(2, 40)):
        question, answer = _size(chance, 64 * KIB), _size(chance, 64 * KIB)
        asked, client = asked + question, [*client, Send(question)]
        server += [Await(asked), Send(answer)]
        answered += answer
        client.append(Await(answered))
        if chance.random() < 0.2:
            client.append(Pause(chance.uniform(0, 0.05)))
    return Plan("", Side(tuple(client)), Side(tuple(server)))


def _bulk(chance: random.Random, limits: Limits) -> Plan:
    """Much at once: up, down, or both ways at the same time."""
    way = chance.choice(("up", "down", "both"))
    much = [_size(chance, limits.most_bytes, 64 * KIB) for _ in range(2)]
    up = _sends(chance, much[0]) if way != "down" else []
    down = _sends(chance, much[1]) if way != "up" else []
    return Plan("", Side(tuple(up)), Side(tuple(down)))


def _slow(chance: random.Random, limits: Limits) -> Plan:
    """Bulk both ways, to readers who stop reading now and then."""

    def side(outgoing: int, incoming: int) -> Side:
        places = sorted(chance.randrange(incoming) for _ in range(chance.randint(1, 4)))
        stalls = [Stall(place, chance.uniform(0.05, 1.0)) for place in places]
        return Side(tuple(_sends(chance, outgoing)), tuple(stalls))

    up, down = (_size(chance, limits.most_bytes, 256 * KIB) for _ in range(2))
    return Plan("", side(up, down), side(down, up))


def _half_closed(chance: random.Random, limits: Limits) -> Plan:
    """One end says all and shuts down; only then does the other one begin."""
    first, second = (_size(chance, limits.most_bytes // 4) for _ in range(2))
    eager = Side(tuple(_sends(chance, first)))
    patient = Side((AwaitEnd(), *_sends(chance, second)))
    return Plan("", *chance.sample((eager, patient), 2))


def _idle(chance: random.Random, limits: Limits) -> Plan:
    """A short chat, a long silence, and a short chat."""
    sizes = [_size(chance, 4 * KIB) for _ in range(4)]
    silence = Pause(chance.uniform(0.2, 1) * limits.longest_pause)
    client = (Send(sizes[0]), Await(sizes[1]), silence, Send(sizes[2]))
    asked = sizes[0] + sizes[2]
    server = (Await(sizes[0]), Send(sizes[1]), Await(asked), Send(sizes[3]))
    return Plan("", Side(client), Side(server))


def _any(chance: random.Random, limits: Limits) -> Plan:
    """What a reset shall tear."""
    kinds = (_chat, _bulk, _slow, _half_closed)
    return chance.choice(kinds)(chance, limits)


def _torn(chance: random.Random, plan: Plan) -> Plan:
    """The same with a reset by one end, somewhere among its steps."""

    def tear(side: Side) -> Side:
        kept = side.steps[: chance.randint(0, len(side.steps))]
        return Side((*kept, Pause(chance.uniform(0, 0.02)), Reset()), side.stalls)

    if chance.random() < 0.5:
        return Plan("", tear(plan.client), plan.server)
    return Plan("", plan.client, tear(plan.server))


def _reading(chance: random.Random, side: Side) -> Side:
    """Most read as much as there is, some in small bites."""
    bite = 256 * KIB if chance.random() < 0.8 else _size(chance, 16 * KIB, 512)
    return Side(side.steps, side.stalls, bite)


_Maker = Callable[[random.Random, Limits], Plan]
# How often each kind comes, and what makes it.
_KINDS: Final[dict[str, tuple[int, _Maker]]] = {
    "short": (45, _short),
    "chat": (18, _chat),
    "bulk": (11, _bulk),
    "slow": (4, _slow),
    "half-close": (8, _half_closed),
    "idle": (4, _idle),
    "reset": (10, _any),
}
KINDS: Final = tuple(_KINDS)
