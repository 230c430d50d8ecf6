"""When which node had no ready agent, as the API server tells it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from tests.cluster import machine
from tests.lab.system import LabError

POLL_SECONDS = 0.2


class Absences:
    """`with Absences() as absences:` looks on; afterwards `of(node)` tells."""

    def __init__(self) -> None:
        self._ready: dict[int, list[tuple[float, bool]]] = {
            n: [] for n in machine.NODES
        }
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="absences")

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def of(self, node: int) -> list[tuple[float, float]]:
        """From when to when, in seconds of `time.monotonic`; an open end is now."""
        found: list[tuple[float, float]] = []
        gone: float | None = None
        for at, is_ready in self._ready[node]:
            if not is_ready and gone is None:
                gone = at
            elif is_ready and gone is not None:
                found.append((gone, at))
                gone = None
        return found + ([(gone, time.monotonic())] if gone is not None else [])

    def _watch(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        at = time.monotonic()
        try:
            agents = machine.pods_of(
                machine.MESH, "app.kubernetes.io/name=podlock-agent"
            )
        except LabError:
            return  # the API server is away: nothing is known
        ready = {p["spec"].get("nodeName") for p in agents if machine.is_ready(p)}
        for node, told in self._ready.items():
            told.append((at, machine.node_name(node) in ready))
