"""
One agent at a time has a node: two would both want the pods' ports.

A lock on a directory beside the pins, in a file system that root alone may enter. The
next agent may be there already and wait: it takes over when this one lets go, which is
when it takes no more connections, and not only when its last one has ended. The kernel
lets go for a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from agent.errors import KernelError
from agent.redirect import bpffs
from agent.redirect.layout import PinLayout


class Tenure:
    """The right to a node's pods; `close` gives it up."""

    def __init__(self, pins: Path) -> None:
        self._pins = pins
        self._held: int | None = None

    def try_take(self) -> bool:
        """
        Whether it is ours now. Raises: KernelError where there can be no lock.
        """
        if self._held is not None:
            return True
        path = PinLayout(self._pins).tenure
        try:
            bpffs.ensure_mounted(self._pins)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(f"{path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._held = lock
        return True

    def close(self) -> None:
        """Let another agent have it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def forget(pins: Path) -> None:
    """Remove the lock's directory, with everything else of a node."""
    with contextlib.suppress(OSError):
        PinLayout(pins).tenure.rmdir()
