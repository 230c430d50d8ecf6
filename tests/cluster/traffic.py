"""Requests on new connections, by programs in pods; what became of them, by time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.cluster import machine
from tests.cluster.machine import Document
from tests.cluster.world import ECHO, PORT, SHOP, App
from tests.lab import system

RATE: Final = 10  # new connections a second of each path


@dataclass(frozen=True, slots=True)
class Path:
    """Requests from a pod of one node to a pod of another, or the same."""

    source: int
    target: int

    @property
    def name(self) -> str:
        """The asking pod's."""
        return f"ask-{self.source}{self.target}"

    def touches(self, node: int) -> bool:
        """Whether an agent of that node has a part in it."""
        return node in (self.source, self.target)

    def __str__(self) -> str:
        return f"node{self.source} to node{self.target}"


PATHS: Final = tuple(Path(a, b) for a in machine.NODES for b in machine.NODES)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the requests of one path within a time."""

    path: Path
    answered: int
    failed: int
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path}: {self.answered} answered, {self.failed} failed"


def start() -> None:
    """Requests between all nodes from now on, unless they flow. Raises: LabError."""
    if _flows():
        return
    stop()
    echoes = {node: App(f"echo-{node}", node, ECHO, "echo") for node in machine.NODES}
    machine.apply(*(each for app in echoes.values() for each in app.objects()))
    machine.wait_ready(SHOP)
    system.wait_until(
        lambda: all(_is_marked(f"echo-{node}") for node in machine.NODES),
        "marks of the echo pods",
        *(30, 0.5),
    )
    for path in PATHS:
        address = machine.get("-n", SHOP, "pod", f"echo-{path.target}")
        program = ("python3", "-u", "/programs/pulse.py", "1", "ask", str(RATE))
        command = (*program, address["status"]["podIP"], str(PORT))
        machine.apply(*App(path.name, path.source, command, "ask").objects())
    machine.wait_ready(SHOP)
    system.wait_until(_all_flow, "answers on every path", 60, 1.0)


def stop() -> None:
    """No requests any more."""
    names = [path.name for path in PATHS] + [f"echo-{node}" for node in machine.NODES]
    pods = ("pod", *names, "--ignore-not-found", "--grace-period=1")
    machine.kubectl("-n", SHOP, "delete", *pods, seconds=90)


def tallies(since: float, until: float) -> list[Tally]:
    """By path, between two times of `time.monotonic`."""
    return [_tally(path, since, until) for path in PATHS]


def settle(seconds: float = 2.0) -> float:
    """Wait until what is under way has been told; the time before."""
    now = time.monotonic()
    time.sleep(seconds)
    return now


def _tally(path: Path, since: float, until: float) -> Tally:
    told = [line for line in _log(path) if since <= line["at"] <= until]
    failures = [line["why"] for line in told if line["event"] == "failed"]
    seconds = [line for line in told if line["event"] == "second"]
    answered = 0
    if seconds:
        # "answered" counts from the start.
        answered = seconds[-1]["answered"] - seconds[0]["answered"]
    return Tally(path, answered, len(failures), tuple(dict.fromkeys(failures)))


def _log(path: Path) -> Iterator[Document]:
    for line in machine.kubectl("-n", SHOP, "logs", path.name).splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _flows() -> bool:
    names = {pod["metadata"]["name"] for pod in machine.pods_of(SHOP)}
    return all(path.name in names for path in PATHS) and _all_flow()


def _all_flow() -> bool:
    now = time.monotonic()
    return all(tally.answered > 0 for tally in tallies(now - 4, now))


def _is_marked(pod: str) -> bool:
    return machine.is_marked(machine.get("-n", SHOP, "pod", pod))
