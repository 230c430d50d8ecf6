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

    def __init__(self, pins: Path, cgroup: Path | None = None) -> None:
        """
        `cgroup`: locked as well, against an agent that has other pins and would attach
        its programs beside ours.
        """
        self._pins = pins
        self._cgroup = cgroup
        self._held: int | None = None
        self._cgroup_held: int | None = None

    def try_take(self) -> bool:
        """
        Whether it is ours now. Raises: KernelError where there can be no lock, or an
        agent with other pins has the cgroup.
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
        try:
            self._take_cgroup()
        except KernelError:
            os.close(lock)
            raise
        self._held = lock
        return True

    def _take_cgroup(self) -> None:
        if self._cgroup is None or self._cgroup_held is not None:
            return
        try:
            lock = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(f"cgroup {self._cgroup}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise KernelError(
                f"cgroup {self._cgroup}: another agent, with other pins than"
                f" {self._pins}, has attached its programs there"
            ) from error
        self._cgroup_held = lock

    @property
    def is_held(self) -> bool:
        """Whether it is ours."""
        return self._held is not None

    def is_intact(self) -> bool:
        """Whether the next agent would find our lock: it may have been removed."""
        if self._held is None:
            return False
        try:
            there = PinLayout(self._pins).tenure.stat()
        except OSError:
            return False
        ours = os.fstat(self._held)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def retake(self) -> None:
        """Lock the folder that is there now. Raises: KernelError if it is taken."""
        removed, self._held = self._held, None
        if not self.try_take():
            self._held = removed
            raise KernelError(f"{self._pins}: another agent has the node lock")
        if removed is not None:
            os.close(removed)

    def close(self) -> None:
        """Let another agent have it."""
        # Who has the pins next takes the cgroup at once.
        if self._cgroup_held is not None:
            os.close(self._cgroup_held)
            self._cgroup_held = None
        if self._held is not None:
            os.close(self._held)
            self._held = None


def is_taken(pins: Path) -> bool:
    """Whether an agent has it now. Changes nothing. Raises: OSError."""
    try:
        lock = os.open(PinLayout(pins).tenure, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def forget(pins: Path) -> None:
    """Remove the lock's directory, with everything else of a node."""
    with contextlib.suppress(OSError):
        PinLayout(pins).tenure.rmdir()
