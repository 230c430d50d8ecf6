"""As many file descriptors as the system allows: five a pod, two a connection."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.redirect.facts import Fault

SPARE: Final = 8
"""With fewer left, a new connection is not accepted, or not carried."""


def allow_descriptors() -> None:
    """Raise the soft limit of this process to the hard one (getrlimit(2))."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def shortages(processes: Mapping[str, int]) -> Iterator[Fault]:
    """The processes, by name and process id, that are out of file descriptors."""
    for name, pid in processes.items():
        try:
            used = _open_descriptors(pid)
            limit, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        except OSError:
            continue  # it has ended, and its own report says so
        if limit != resource.RLIM_INFINITY and limit - used < SPARE:
            text = f"{used} of {limit} file descriptors are open: new connections wait"
            yield Fault(name, text, lasting=True)


def _open_descriptors(pid: int) -> int:
    directory = Path(f"/proc/{pid}/fd")
    # Linux 6.2 gives their number as the size, and 0 before.
    return directory.stat().st_size or len(os.listdir(directory))
