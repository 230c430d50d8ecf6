"""
Where the network namespaces of this node's pods are, by uid: cgroup, process, nsfs.

Works for every runtime, since the kubelet names the cgroups. A namespace that was found
is held open, so that it outlives the pod's last process for as long as the pod is
known: what is on its way then still goes out. Its path is one of our own descriptors,
not a process's: a pid may be another's a moment later.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.addresses import IPAddress
from agent.errors import InputError, KernelError
from agent.redirect import bpffs, rtnetlink
from agent.redirect.netns import inside
from agent.redirect.pod_cgroup import Member, pod_uid, start_time, witness

PROC: Final = Path("/proc")
# A pod's cgroup lies four levels below a hierarchy's root, plus the node's own root.
MAX_DEPTH: Final = 8
_CGROUPS: Final = frozenset({"cgroup", "cgroup2"})


@dataclass(frozen=True, slots=True)
class Found:
    """A pod's network namespace, held by `fd`, and the addresses that it began with."""

    fd: int
    netns: int
    addresses: tuple[IPAddress, ...] = ()


def hierarchies() -> tuple[Path, ...]:
    """Every mounted cgroup hierarchy, of v1 and v2."""
    return tuple(mount.point for mount in bpffs.mounts() if mount.kind in _CGROUPS)


class PodNamespaces:
    """Call `look` for pods of interest; `path` tells what was found."""

    def __init__(self, roots: Collection[Path], proc: Path = PROC) -> None:
        """`roots`: where cgroup hierarchies are mounted."""
        self._roots = tuple(roots)
        self._proc = proc
        self._node = (proc / "self/ns/net").stat().st_ino
        self._parents: set[Path] = set()
        self._found: dict[str, Found] = {}
        self._past: list[Found] = []

    def path(self, uid: str) -> str | None:
        """The path of a pod's network namespace, in this process; None if unknown."""
        found = self._found.get(uid)
        return f"/proc/self/fd/{found.fd}" if found else None

    def addresses(self, uid: str) -> tuple[IPAddress, ...]:
        """
        What a pod's namespace had for addresses when it was found, one of a family.

        The API server tells them a second later. A pod that may change its own network
        may have written them, so they count for nothing where others have a claim.
        """
        found = self._found.get(uid)
        return found.addresses if found else ()

    def look(self, uids: Set[str], *, everywhere: bool = True) -> bool:
        """
        Look for these pods' namespaces; whether any is another than before.

        Blocks for some system calls a process of theirs. `everywhere`: walk over all
        cgroups for a pod whose cgroup is not beside those of others.
        """
        folders = self._folders(uids)
        if uids - folders.keys() and (everywhere or not self._parents):
            self._walk()
            folders = self._folders(uids)
        changed = {uid for uid in folders if self._settle(uid, folders[uid])}
        return bool(changed)

    def keep(self, uids: Collection[str]) -> None:
        """Let go of all others, and of what these had before; nobody uses them."""
        gone = self._found.keys() - set(uids)
        for found in (*self._past, *map(self._found.pop, gone)):
            os.close(found.fd)
        self._past.clear()

    def close(self) -> None:
        """Let go of all."""
        self.keep(())

    def _walk(self) -> None:
        """Learn the folders that hold pods' cgroups: three in each hierarchy."""
        for root in self._roots:
            for folder, names, _ in os.walk(root):
                place = Path(folder)
                if len(place.parts) - len(root.parts) >= MAX_DEPTH:
                    names.clear()
                elif any(map(pod_uid, names)):
                    self._parents.add(place)
                names[:] = [name for name in names if pod_uid(name) is None]

    def _folders(self, uids: Set[str]) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for parent in self._parents:
            for name in _names(parent):
                uid = pod_uid(name)
                if uid in uids and uid is not None:
                    found.setdefault(uid, []).append(parent / name)
        return found

    def _settle(self, uid: str, folders: list[Path]) -> bool:
        held = self._found.get(uid)
        known = held.netns if held else None
        pids = {pid for folder in folders for pid in _pids(folder)}
        members = [m for pid in pids if (m := self._member(pid)) is not None]
        chosen = witness(members, node=self._node, held=known)
        if chosen is None or chosen.netns == known:
            return False
        found = self._open(chosen)
        if found is None:
            return False
        if held:
            self._past.append(held)
        self._found[uid] = found
        return True

    def _member(self, pid: int) -> Member | None:
        home = self._proc / str(pid)
        try:
            started = start_time((home / "stat").read_text(errors="replace"))
            return Member(pid, started, (home / "ns/net").stat().st_ino)
        except (OSError, InputError):  # it has ended
            return None

    def _open(self, member: Member) -> Found | None:
        """Hold a namespace; None if the process ended before it was held."""
        path = self._proc / str(member.pid) / "ns/net"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        if os.fstat(fd).st_ino != member.netns:
            os.close(fd)
            return None
        return Found(fd, member.netns, self._addresses(fd))

    def _addresses(self, netns_fd: int) -> tuple[IPAddress, ...]:
        try:
            with inside(netns_fd):
                return rtnetlink.own_addresses()
        except (OSError, KernelError):  # the API server tells them, a second later
            return ()


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _pids(folder: Path) -> Iterator[int]:
    """The processes of a cgroup and of those below it."""
    for place, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            yield from map(int, Path(place, "cgroup.procs").read_text().split())
