"""The programs in the pods: started here, and what they print gathered here."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.lab import system
from tests.lab.identity import REPOSITORY
from tests.lab.pod import Pod
from tests.soak.ends import End
from tests.soak.paths import Path
from tests.soak.plan import Limits
from tests.soak.world import World

# Room for the numbers of one phase: warm-up, load.
PHASE_NUMBERS: Final = 1 << 40


@dataclass(slots=True)
class Load:
    """Servers that stay, clients for a phase, and one queue of all reports."""

    world: World
    seed: int
    limits: Limits
    reports: queue.SimpleQueue[End | str] = field(default_factory=queue.SimpleQueue)
    """What ends saw; as text, what a program printed and is no report."""
    _servers: list[subprocess.Popen[str]] = field(default_factory=list)
    _clients: list[subprocess.Popen[str]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _phase: int = 0

    def serve(self) -> None:
        """Start a server for each port and wait until all listen."""
        ports: dict[tuple[str, int], list[str]] = {}
        for path in self.world.paths:
            ports.setdefault((path.server, path.port), []).append(path.name)
        for (name, port), names in ports.items():
            argv = (self.seed, port, *self._limits, *names)
            self._servers.append(self._start(self.world.pods[name], "server", *argv))
        for name, port in ports:
            self.world.pods[name].wait_listening(port)

    def begin(self, seconds: float, lanes: int) -> None:
        """Start the clients of all paths; they stop opening after `seconds`."""
        first = self._phase * PHASE_NUMBERS
        self._phase += 1
        self._clients = [
            self._client(path, seconds, lanes, first) for path in self.world.paths
        ]

    def _client(
        self, path: Path, seconds: float, lanes: int, first: int
    ) -> subprocess.Popen[str]:
        its = (self.seed, path.name, path.port, seconds, lanes, first, *self._limits)
        where = self.world.pods[path.server].address
        return self._start(self.world.pods[path.client], "client", *its, *where)

    @property
    def _limits(self) -> tuple[int, float]:
        return self.limits.most_bytes, self.limits.longest_pause

    @property
    def running(self) -> bool:
        """Whether a client has connections yet."""
        return any(client.poll() is None for client in self._clients)

    def fallen(self) -> Iterator[str]:
        """Programs that ended and should not have."""
        for process in self._servers:
            if process.poll() is not None:
                yield f"a server of the load ended: {process.returncode}"
        for process in self._clients:
            if process.poll():
                yield f"a client of the load ended: {process.returncode}"

    def drained(self) -> Iterator[End | str]:
        """The reports that have come since."""
        while not self.reports.empty():
            yield self.reports.get()

    def _start(self, pod: Pod, name: str, *arguments: object) -> subprocess.Popen[str]:
        python = [sys.executable, "-S", "-u", "-m", f"tests.soak.{name}"]
        argv = ["env", f"PYTHONPATH={REPOSITORY}", *python, *map(str, arguments)]
        process = pod.children.start(
            pod.command(*argv), subprocess.PIPE, subprocess.STDOUT
        )
        reader = threading.Thread(target=self._gather, args=(process,), daemon=True)
        reader.start()
        self._threads.append(reader)
        return process

    def _gather(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            try:
                self.reports.put(End.parse(line))
            except ValueError:
                self.reports.put(line.rstrip())

    def stop(self) -> None:
        """Kill what runs; the readers end with the pipes."""
        system.kill_cgroup(self.world.lab.names.cgroup)
        for reader in self._threads:
            reader.join(5)
