"""
Which process is the kubelet, and in which cgroup v2 it runs.

It is who listens on the kubelet's port in the node's own network namespace, as root and
outside every pod's cgroup. Its name would say less: k3s is one process that is kubelet
and API server, and any program may be called so. `listening_inodes` is pure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.redirect.pod_cgroups import (
    InvalidProcess,
    Process,
    is_root,
    parse_pids,
    pod_uid,
    started_ticks,
)

PROC: Final = Path("/proc")
TCP_LISTEN: Final = "0A"  # include/net/tcp_states.h
_TABLES: Final = ("net/tcp", "net/tcp6")
# Columns of /proc/net/tcp (proc(5)): sl, local, remote, st, ..., uid, timeout, inode.
_LOCAL, _STATE, _UID, _INODE = 1, 3, 7, 9


@dataclass(frozen=True, slots=True)
class Kubelet:
    """A process, and the cgroup that it was found in."""

    process: Process
    cgroup: Path


def listening_inodes(table: str, port: int) -> set[int]:
    """Root's listening sockets on `port`, of a /proc/net/tcp or tcp6."""
    found: set[int] = set()
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) <= _INODE or columns[_STATE] != TCP_LISTEN:
            continue
        _, _, text = columns[_LOCAL].rpartition(":")
        if text == f"{port:04X}" and columns[_UID] == "0":
            found.add(int(columns[_INODE]))
    return found


def find_kubelet(port: int, cgroup2: Path, proc: Path = PROC) -> Kubelet | None:
    """
    The kubelet; None where nobody listens, or only somebody in a pod.

    `cgroup2`: the root of cgroup v2. Looks at every process; blocks for milliseconds.
    """
    inodes: set[int] = set()
    for table in _TABLES:
        inodes |= listening_inodes(_read(proc / "self" / table), port)
    names = {f"socket:[{inode}]" for inode in inodes}
    for pid in _pids(proc) if names else ():
        process = _process(proc, pid)
        if process is None or not names & set(_descriptors(proc / str(pid))):
            continue
        cgroup = _cgroup_of(pid, cgroup2)
        if cgroup is not None and not _is_of_a_pod(cgroup):
            return Kubelet(process, cgroup)
    return None


def is_still(kubelet: Kubelet, proc: Path = PROC) -> bool:
    """Whether that process lives, and in that cgroup."""
    pid = kubelet.process.pid
    members = parse_pids(_read(kubelet.cgroup / "cgroup.procs"))
    return pid in members and _process(proc, pid) == kubelet.process


def _is_of_a_pod(cgroup: Path) -> bool:
    return any(is_root(part) or pod_uid(part) for part in cgroup.parts)


def _cgroup_of(pid: int, cgroup2: Path) -> Path | None:
    """
    By a look at all of them: /proc/PID/cgroup is relative to our own cgroup namespace.
    """
    for folder, _, files in os.walk(cgroup2):
        if "cgroup.procs" in files:
            path = Path(folder)
            if pid in parse_pids(_read(path / "cgroup.procs")):
                return path
    return None


def _process(proc: Path, pid: int) -> Process | None:
    try:
        return Process(started_ticks(_read(proc / str(pid) / "stat")), pid)
    except InvalidProcess:
        return None


def _descriptors(home: Path) -> Iterator[str]:
    try:
        with os.scandir(home / "fd") as entries:
            for entry in entries:
                yield os.readlink(entry.path)
    except OSError:
        return


def _pids(proc: Path) -> Iterator[int]:
    yield from (int(path.name) for path in proc.iterdir() if path.name.isdigit())


def _read(path: Path) -> str:
    """Empty where there is nothing, or nothing any more."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
