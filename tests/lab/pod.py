"""A pod: a network namespace, a cgroup, two addresses, and what runs in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab import system
from tests.lab.names import DualStack

PROGRAMS: Final = Path(__file__).parent / "programs"
COMMAND_SECONDS: Final = 20.0


def program(name: str, *arguments: str | float) -> list[str]:
    """The command line of one of the small applications in `programs/`."""
    # -I -S: nothing of ours and no site-packages; they start in 20 ms, know nothing.
    python = [sys.executable, "-I", "-S", "-u"]
    return [*python, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a lab. `directory` holds its applications' files and logs."""

    name: str
    namespace: str
    service_account: str
    node: str
    address: DualStack
    netns: Path
    cgroup: Path
    directory: Path
    children: system.Children

    def command(self, *argv: str) -> list[str]:
        """How `argv` is started in this pod."""
        return system.inside(self.netns, self.cgroup, argv)

    def start(self, *argv: str, log: str | None = None) -> subprocess.Popen[str]:
        """
        Start a program and return at once.

        Its standard output is a pipe; with `log` both outputs go to that file of the
        pod's directory. The lab's teardown kills it.
        """
        command = self.command(*argv)
        if log is None:
            return self.children.start(command, stdout=subprocess.PIPE)
        with (self.directory / log).open("a") as out:
            return self.children.start(command, out, subprocess.STDOUT)

    def run(self, *argv: str, seconds: float = COMMAND_SECONDS) -> system.Finished:
        """
        Run a program to its end; a failing exit code is an answer, not an error.

        Raises: LabError when it takes longer than `seconds`.
        """
        return system.finished(self.command(*argv), self.name, seconds)

    def ask(
        self, name: str, *arguments: str | int, seconds: float = COMMAND_SECONDS
    ) -> dict[str, Any]:
        """
        Run one of `programs/` and return the one JSON object that it prints.

        Raises: LabError when it prints something else.
        """
        done = self.run(*program(name, *arguments), seconds=seconds)
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            said = (done.stdout + done.stderr).strip()
            raise system.LabError(f"{self.name}: {name}: {said[-300:]}") from error
        return answer

    def listens(self, port: int) -> bool:
        """Whether an application of this pod has a listening TCP socket on `port`."""
        # `ss` asks the kernel; a probing connection would be traffic of its own.
        argv = ["-Hltn", f"sport = :{port}"]
        return bool(system.run("nsenter", f"--net={self.netns}", "ss", *argv).strip())

    def wait_listening(self, port: int, seconds: float = 5.0) -> None:
        """Wait for a listening socket on `port`. Raises: LabError."""
        system.wait_until(
            lambda: self.listens(port), f"{self.name} listens on {port}", seconds
        )
