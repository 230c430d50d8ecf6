"""
Removes what a run of these tests leaves that ended before it could: by a signal, even
SIGKILL, a closed terminal or a time limit. As `tests.lab.reaper` does for labs.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.lab.reaper import CLOSED


def main(run: str) -> None:
    """Wait for the end of the run's process, and clean up unless it did."""
    if os.read(sys.stdin.fileno(), 1) != CLOSED:
        cleanup(run)


def cleanup(run: str) -> None:
    """Every cgroup, set of pins and network namespace whose name has `run`."""
    from agent.redirect.bpffs import find_cgroup
    from agent.redirect.program import unload
    from tests.bpf.world import BPFFS, NETNS_DIRECTORY
    from tests.lab import system

    pattern = f"podlock-*-{run}-*"
    for cgroup in find_cgroup(None).glob(pattern):
        system.kill_cgroup(cgroup)
        system.remove_cgroup(cgroup)
    for pins in BPFFS.glob(pattern):
        unload(pins)
    for netns in NETNS_DIRECTORY.glob(pattern):
        subprocess.run(["ip", "netns", "del", netns.name], check=False)


if __name__ == "__main__":
    main(sys.argv[1])
