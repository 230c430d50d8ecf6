"""
What is asked of each contestant, and which figures come of it.

Every case yields a mapping of metric names to figures in SI units; what belongs to it
and is no metric goes along under another name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.bench import world
from tests.bench.load import OPEN_SECONDS, Answer, Load, LoadFailed
from tests.bench.statistics import (
    CPU_BYTES,
    CPU_COUNT,
    EVENNESS,
    MEGABYTES,
    MEMORY,
    P50,
    P99,
    RATE,
    REQUESTS,
    SLOWDOWN,
    SPEED,
    Metric,
)
from tests.bench.world import Route

Figures = Mapping[str, float]

GB: Final = 1e9
# Bulk is under way before a neighbour is measured, and ends after it.
HEAD_START_SECONDS: Final = 0.15
SETTLE_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is spent on one run of a case."""

    rounds: int
    seconds: float
    warm_up: float
    idle: tuple[int, ...]


QUICK: Final = Effort(rounds=3, seconds=0.3, warm_up=0.1, idle=(1000,))
FULL: Final = Effort(rounds=5, seconds=1.5, warm_up=0.2, idle=(1000, 10_000))


@dataclass(frozen=True, slots=True)
class Case:
    """One question. `once`: its answer does not depend on the moment: one round."""

    name: str
    metrics: tuple[Metric, ...]
    measure: Callable[[Load, Route, Effort], Figures]
    once: bool = False


def all_cases(effort: Effort) -> list[Case]:
    """Every case of a run, in the order of the report."""
    return [
        *(_idle(count) for count in effort.idle),
        *(_trips(count) for count in (1, 8, 64)),
        *(_bulk(count, way) for count in (1, 8) for way in ("up", "down")),
        *(_opens(count) for count in (1, 32)),
        Case("mixed", (P50, P99, RATE, SPEED), _mixed),
        *(_beside(way) for way in ("up", "down")),
    ]


def _trips(connections: int) -> Case:
    def measure(load: Load, route: Route, effort: Effort) -> Figures:
        arguments = (str(connections), str(effort.seconds), str(effort.warm_up))
        return _exchanges(load, route, effort, "trips", *arguments)

    return Case(f"round trip, {connections}", (P50, P99, RATE, CPU_COUNT), measure)


def _opens(in_flight: int) -> Case:
    def measure(load: Load, route: Route, effort: Effort) -> Figures:
        arguments = (str(in_flight), str(effort.seconds), str(effort.warm_up))
        return _exchanges(load, route, effort, "opens", *arguments)

    return Case(f"new connection, {in_flight}", (P50, P99, RATE, CPU_COUNT), measure)


def _bulk(streams: int, way: str) -> Case:
    def measure(load: Load, route: Route, effort: Effort) -> Figures:
        before = world.cpu_seconds(route.cgroups)
        arguments = (str(streams), str(effort.seconds), way)
        answer = _call(load, route, "bulk", *arguments, seconds=effort.seconds)
        used = world.cpu_seconds(route.cgroups) - before
        return {
            **_speed(answer),
            MEGABYTES: answer["bytes"] / 1e6,
            EVENNESS.name: answer["least"] * streams / answer["bytes"],
            **_cost(route, CPU_BYTES, used / (answer["bytes"] / GB)),
        }

    shared = (EVENNESS,) if streams > 1 else ()
    return Case(f"bulk {way}, {streams}", (SPEED, CPU_BYTES, *shared), measure)


def _mixed(load: Load, route: Route, effort: Effort) -> Figures:
    """Eight connections of round trips beside four bulk streams."""
    trips, bulk = _together(load, route, effort, trips=8, streams=4, way="down")
    return {**_latencies(trips), **_speed(bulk), REQUESTS: trips["all"]}


def _beside(way: str) -> Case:
    """Fairness: what one bulk stream does to the round trips of one connection."""

    def measure(load: Load, route: Route, effort: Effort) -> Figures:
        arguments = ("1", str(effort.seconds), str(effort.warm_up))
        alone = _call(load, route, "trips", *arguments, seconds=effort.seconds)
        trips, bulk = _together(load, route, effort, trips=1, streams=1, way=way)
        return {
            **_latencies(trips),
            **_speed(bulk),
            SLOWDOWN.name: trips["p99"] / alone["p99"],
            "p99_alone_seconds": alone["p99"] / 1e9,
            REQUESTS: alone["all"] + trips["all"],
        }

    return Case(f"beside bulk {way}", (P50, P99, SLOWDOWN, SPEED), measure)


def _together(
    load: Load, route: Route, effort: Effort, *, trips: int, streams: int, way: str
) -> tuple[Answer, Answer]:
    """Round trips while bulk runs between the same pods: both answers."""
    seconds = effort.seconds + effort.warm_up + 2 * HEAD_START_SECONDS
    bulk = (route.address, str(route.port), str(streams), str(seconds), way)
    with load.beside(route.client, "bulk", *bulk) as neighbour:
        time.sleep(HEAD_START_SECONDS)
        arguments = (str(trips), str(effort.seconds), str(effort.warm_up))
        answer = _call(load, route, "trips", *arguments, seconds=seconds)
        if not answer["count"]:
            raise LoadFailed(f"no round trip in {effort.seconds:g} s beside bulk")
        return answer, load.finish(neighbour, seconds)


def _idle(connections: int) -> Case:
    def measure(load: Load, route: Route, effort: Effort) -> Figures:
        # Where files are scarce a sidecar, with two sockets for each, holds fewer.
        count = min(connections, world.most_connections(route.sockets_each))
        where = (route.address, str(route.port))
        arguments = ("idle", *where, str(count))
        with load.beside(route.client, *arguments) as client:
            load.wait_open(client, OPEN_SECONDS)
            time.sleep(SETTLE_SECONDS)
            used = world.memory(route.cgroups)
        # Not what it was a moment ago: memory kept from an earlier load would be free.
        each = (used - route.rest_bytes) / count
        more = {"rest_bytes": float(route.rest_bytes), "connections": float(count)}
        return {**_cost(route, MEMORY, each), **more}

    return Case(f"idle, {connections}", (MEMORY,), measure, once=True)


def _exchanges(load: Load, route: Route, effort: Effort, *arguments: str) -> Figures:
    mode, *rest = arguments
    before = world.cpu_seconds(route.cgroups)
    seconds = effort.seconds + effort.warm_up
    answer = _call(load, route, mode, *rest, seconds=seconds)
    used = world.cpu_seconds(route.cgroups) - before
    if not answer["count"]:
        raise LoadFailed(f"{mode}: not one exchange in {effort.seconds:g} s")
    cost = used / (answer["all"] / 1000)
    figures = {**_latencies(answer), REQUESTS: answer["all"]}
    return {**figures, **_cost(route, CPU_COUNT, cost)}


def _call(load: Load, route: Route, mode: str, *rest: str, seconds: float) -> Answer:
    where = (route.address, str(route.port))
    return load.run(route.client, mode, *where, *rest, seconds=seconds)


def _latencies(answer: Answer) -> dict[str, float]:
    return {
        P50.name: answer["p50"] / 1e9,
        P99.name: answer["p99"] / 1e9,
        RATE.name: answer["count"] / (answer["nanoseconds"] / 1e9),
    }


def _speed(answer: Answer) -> dict[str, float]:
    return {SPEED.name: answer["bytes"] / (answer["nanoseconds"] / 1e9)}


def _cost(route: Route, metric: Metric, value: float) -> dict[str, float]:
    """A cost, for those who have processes to bear it."""
    return {metric.name: value} if route.cgroups else {}
