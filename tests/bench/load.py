"""The load's programs: compiled once for a run, called in a pod's namespace."""

from __future__ import annotations

import json
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab import system
from tests.lab.pod import Pod

SOURCES: Final = Path(__file__).parent
PORT: Final = 7000
# What opening, draining and a starved machine may take on top of the measured time.
GRACE_SECONDS: Final = 20.0
OPEN_SECONDS: Final = 60.0

Answer = dict[str, Any]


class LoadFailed(system.LabError):
    """A client could not do what it was asked to; the message is its own."""


@dataclass(frozen=True, slots=True)
class Load:
    """The compiled clients and the compiled server."""

    program: Path
    server: Path

    @classmethod
    def compile(cls, directory: Path) -> Load:
        """Compile them into `directory`. Raises: LabError, as the compiler says it."""
        load = cls(directory / "load", directory / "serve")
        for built in (load.program, load.server):
            source = SOURCES / f"{built.name}.c"
            system.run("cc", "-O2", "-Wall", "-o", str(built), str(source))
        return load

    def serve(self, pod: Pod) -> None:
        """Start the server in a pod; the lab's teardown ends it."""
        pod.start(str(self.server), str(PORT), log="serve.out")
        pod.wait_listening(PORT)

    def run(self, pod: Pod, *arguments: str, seconds: float) -> Answer:
        """Run a client to its end. Raises: LoadFailed."""
        limit = seconds + GRACE_SECONDS
        done = pod.run(str(self.program), *arguments, seconds=limit)
        if done.returncode != 0:
            raise LoadFailed(done.stderr.strip() or f"load ended: {done.returncode}")
        return parsed(done.stdout)

    @contextmanager
    def beside(self, pod: Pod, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run a client beside the block; it has ended after it, one way or another."""
        process = subprocess.Popen(
            pod.command(str(self.program), *arguments),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)

    @staticmethod
    def wait_open(process: subprocess.Popen[str], seconds: float) -> None:
        """Wait until an `idle` client has opened everything. Raises: LoadFailed."""
        assert process.stdout
        assert process.stderr
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            raise LoadFailed(f"connections are not open within {seconds:g} s")
        if not process.stdout.readline():
            raise LoadFailed(process.stderr.read().strip() or "the client ended")

    @staticmethod
    def finish(process: subprocess.Popen[str], seconds: float) -> Answer:
        """Wait for a client that runs beside. Raises: LoadFailed."""
        try:
            out, said = process.communicate(timeout=seconds + GRACE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LoadFailed(f"not within {seconds + GRACE_SECONDS:g} s") from error
        if process.returncode != 0:
            raise LoadFailed(said.strip() or f"load ended: {process.returncode}")
        return parsed(out)


def parsed(text: str) -> Answer:
    """The one JSON object that a client prints. Raises: LoadFailed."""
    try:
        answer: Answer = json.loads(text)
    except ValueError as error:
        raise LoadFailed(f"load printed {text[:80]!r}") from error
    return answer
