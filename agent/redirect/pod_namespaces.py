"""
The network namespaces of this node's pods, found by uid.

cgroup -> process -> /proc/PID/ns/net, which works for every runtime and asks none. A
namespace that was found is held open: a path through a process would lead to whoever
gets its number next. What is given out is a path through our own descriptor.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.addresses import IPAddress
from agent.errors import KernelError
from agent.redirect import pod_cgroups, rtnetlink
from agent.redirect.mounts import parse_mounts, process_hierarchies
from agent.redirect.netns import inside
from agent.redirect.pod_cgroups import InvalidProcess, Process

PROC: Final = Path("/proc")
# A look at all pods' directories serves whoever asks within this time.
LOOK_SECONDS: Final = 0.02
# Kubelets make their root once; it is looked for again this often while pods miss.
ROOTS_SECONDS: Final = 5.0
ROOT_DEPTH: Final = 5


@dataclass(slots=True)
class _Held:
    """
    An open namespace, and the process by which it was found.

    `addresses` are those that it had when somebody first asked and there were any.
    """

    descriptor: int
    inode: tuple[int, int]
    process: Process
    addresses: tuple[IPAddress, ...] = ()


class PodNamespaces:
    """Finds and holds namespaces; for one thread."""

    def __init__(
        self,
        hierarchies: Collection[Path],
        proc: Path = PROC,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hierarchies`: where cgroups are mounted, v1 and v2 alike."""
        self._hierarchies = hierarchies
        self._proc = proc
        self._clock = clock
        # Ours and the host's, which are one for an agent on the host's network.
        self._never = {_inode(proc / "self/ns/net")}
        with contextlib.suppress(OSError):  # no right to look, without CAP_SYS_PTRACE
            self._never.add(_inode(proc / "1/ns/net"))
        self._held: dict[str, _Held] = {}
        self._missing: set[str] = set()
        self._roots: list[list[Path]] = []
        self._roots_at = -ROOTS_SECONDS
        self._pods: dict[str, list[Path]] = {}
        self._pods_at = -LOOK_SECONDS

    @classmethod
    def of_this_machine(cls) -> PodNamespaces:
        """By the mount table. Raises: OSError where there is no /proc."""
        mounts = parse_mounts((PROC / "self/mounts").read_text())
        return cls(process_hierarchies(mounts))

    def netns_of(self, uid: str) -> str | None:
        """
        A path to the pod's namespace, as long as the pod is kept (see `keep`).

        A sandbox that was made anew has another namespace, and then this is another.
        None while no process of the pod is found, or only such as are on our own
        network: the host's is never taken for a pod's.
        """
        held = self._held.get(uid)
        if held is None or not self._lives(held.process, uid):
            found = self._find(uid)
            if found is not None and held is not None:
                held = self._replace(uid, held, found)
            elif found is not None:
                held = self._held[uid] = found
        if held is None:
            self._missing.add(uid)
            return None
        self._missing.discard(uid)
        return f"{PROC}/self/fd/{held.descriptor}"

    def addresses_of(self, uid: str) -> tuple[IPAddress, ...]:
        """
        What a pod's namespace had for addresses at first, one of a family.

        The API server tells them a second later. A pod that may change its own network
        may have written them, so they count for nothing where others have a claim.
        """
        held = self._held.get(uid)
        if held is None:
            return ()
        held.addresses = held.addresses or _addresses(held.descriptor)
        return held.addresses

    def look_again(self) -> bool:
        """Whether a pod that was asked for and not found is there now."""
        return any(self.netns_of(uid) is not None for uid in list(self._missing))

    def keep(self, uids: Collection[str]) -> None:
        """Close the namespaces of all pods but these."""
        for uid in self._held.keys() - set(uids):
            os.close(self._held.pop(uid).descriptor)
        self._missing &= set(uids)

    def close(self) -> None:
        """Hold nothing any more."""
        self.keep(())

    def _replace(self, uid: str, held: _Held, found: _Held) -> _Held:
        if found.inode == held.inode:
            os.close(found.descriptor)
            held.process = found.process
            return held
        # Not before the new one is open, so the number is not the same.
        os.close(held.descriptor)
        self._held[uid] = found
        return found

    def _lives(self, process: Process, uid: str) -> bool:
        """Whether that process is still there, and still the pod's."""
        return self._process(process.pid) == process and self._is_of(process.pid, uid)

    def _find(self, uid: str) -> _Held | None:
        processes = (
            self._process(pid)
            for directory in self._directories(uid)
            for pid in _pids_below(directory)
        )
        for process in pod_cgroups.by_age({p for p in processes if p is not None}):
            held = self._open(process, uid)
            if held is not None:
                return held
        return None

    def _open(self, process: Process, uid: str) -> _Held | None:
        path = self._proc / str(process.pid) / "ns/net"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None  # it ended meanwhile
        info = os.fstat(descriptor)
        inode = (info.st_dev, info.st_ino)
        # After it is open: only then it is sure whose it was.
        if inode in self._never or not self._lives(process, uid):
            os.close(descriptor)
            return None
        return _Held(descriptor, inode, process)

    def _process(self, pid: int) -> Process | None:
        try:
            text = (self._proc / str(pid) / "stat").read_text(errors="replace")
            return Process(pod_cgroups.started_ticks(text), pid)
        except (OSError, InvalidProcess):
            return None

    def _is_of(self, pid: int, uid: str) -> bool:
        try:
            text = (self._proc / str(pid) / "cgroup").read_text(errors="replace")
        except OSError:
            return False
        return pod_cgroups.belongs(text, uid)

    def _directories(self, uid: str) -> list[Path]:
        now = self._clock()
        if now - self._pods_at >= LOOK_SECONDS:
            self._pods, self._pods_at = self._look(now), now
        return self._pods.get(uid, [])

    def _look(self, now: float) -> dict[str, list[Path]]:
        """Every pod's directory in every hierarchy, by uid."""
        if now - self._roots_at >= ROOTS_SECONDS:
            self._roots, self._roots_at = _roots_below(self._hierarchies), now
        found: dict[str, list[Path]] = {}
        for roots in self._roots:
            found = _pods_of(roots) | found  # the one that is less deep counts
        return found


def _roots_below(tops: Collection[Path]) -> list[list[Path]]:
    """
    The roots of kubelets by depth, the least first, in all hierarchies.

    A deeper one is of a cluster in a container, whose pods may have the uids of ours
    (a copy of a cluster). One that is not root's is of a user who was given a part of
    the tree: a process there would be taken for whichever pod it names.
    """
    found: list[list[Path]] = []
    level = list(tops)
    for _ in range(ROOT_DEPTH):
        below = [each for directory in level for each in _directories_in(directory)]
        found.append([each for each in below if _is_root(each)])
        level = [each for each in below if not pod_cgroups.is_root(each.name)]
    return found


def _is_root(directory: Path) -> bool:
    if not pod_cgroups.is_root(directory.name):
        return False
    try:
        return directory.stat().st_uid == os.geteuid()
    except OSError:
        return False  # it is gone again


def _pods_of(roots: Collection[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for root in roots:
        for directory in _with_classes(root):
            uid = pod_cgroups.pod_uid(directory.name)
            if uid is not None:
                found.setdefault(uid, []).append(directory)
    return found


def _with_classes(root: Path) -> Iterator[Path]:
    for directory in _directories_in(root):
        if pod_cgroups.is_class(directory.name):
            yield from _directories_in(directory)
        else:
            yield directory


def _pids_below(pod: Path) -> Iterator[int]:
    """Of the pod's containers; a cgroup that a container made below is not asked."""
    for directory in _directories_in(pod):
        if not pod_cgroups.is_container(directory.name):
            continue
        try:
            yield from pod_cgroups.parse_pids((directory / "cgroup.procs").read_text())
        except OSError:
            continue  # the container ended meanwhile


def _directories_in(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _addresses(descriptor: int) -> tuple[IPAddress, ...]:
    try:
        with inside(descriptor):
            return rtnetlink.own_addresses()
    except (OSError, KernelError):  # the API server tells them, a second later
        return ()


def _inode(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_dev, info.st_ino
