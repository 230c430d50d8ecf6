"""
Takes a lab down whose process ended before it could: by a signal, even SIGKILL, a
closed terminal or a time limit.

A process of its own session holds the read end of a pipe. A lab that closes in order
writes a byte; an end of file without it means that its process is gone, and everything
of the run's name is removed (`topology.cleanup`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

CLOSED: Final = b"."
_TOP: Final = Path(__file__).parents[2]
# Removing a lab takes a second or two; more on a machine that others use.
_FAREWELL_SECONDS: Final = 60


class Reaper:
    """The reaper of one run; started before the run makes anything."""

    def __init__(self, run: str, module: str = "tests.lab.reaper") -> None:
        """Args: module is started with `run`, and removes what is of that name."""
        read, self._write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, run],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=_TOP,
                start_new_session=True,
            )
        finally:
            os.close(read)

    def dismiss(self) -> None:
        """The run is closed, or is to stay."""
        os.write(self._write, CLOSED)
        os.close(self._write)
        self._process.wait(_FAREWELL_SECONDS)


def main(run: str) -> None:
    """Wait for the end of the run's process, and clean up unless it did."""
    if os.read(sys.stdin.fileno(), 1) != CLOSED:
        from tests.lab.topology import cleanup

        cleanup(run)


if __name__ == "__main__":
    main(sys.argv[1])
