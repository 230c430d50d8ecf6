"""
Which pod a cgroup belongs to, and which of a pod's processes tells its namespace. Pure.

The kubelet names a pod's cgroup by the pod's uid, under a folder for the pods of each
class of service; the container runtime puts its containers below it:

    kubepods/besteffort/pod2c48913c-b29f-...                    driver cgroupfs
    kubepods.slice/kubepods-besteffort.slice/
        kubepods-besteffort-pod2c48913c_b29f_....slice          driver systemd

with the same name in each hierarchy of cgroup v1 and in v2, possibly below a cgroup
root of the node's own (`--cgroup-root`), and with "kubelet-" before it where nodes are
nested (kind). Source: `pkg/kubelet/cm/cgroup_manager_linux.go` of Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.errors import InputError

# A uid as the API server makes it; systemd takes "-" for a level, so there it is "_".
_POD: Final = re.compile(
    r"(?:[a-z-]+-)?pod([0-9a-f]{8}(?:([-_])[0-9a-f]{4})(?:\2[0-9a-f]{4}){2}\2[0-9a-f]{12})"
    r"(?:\.slice)?"
)
_STARTTIME: Final = 19  # of proc(5)'s fields of /proc/PID/stat, counted after ")"


class InvalidStat(InputError):
    """A line of /proc/PID/stat that is none."""


def pod_uid(name: str) -> str | None:
    """The uid of the pod whose cgroup has this name, or None."""
    found = _POD.fullmatch(name)
    return found[1].replace("_", "-") if found else None


def start_time(stat: str) -> int:
    """When a process started, in clock ticks after boot. Raises: InvalidStat."""
    # The program's name may hold anything, also ")" and spaces.
    _, parenthesis, rest = stat.rpartition(")")
    fields = rest.split()
    if not parenthesis or len(fields) <= _STARTTIME or not fields[_STARTTIME].isdigit():
        raise InvalidStat(f"stat: expected fields after a name, got {stat[:80]!r}")
    return int(fields[_STARTTIME])


@dataclass(frozen=True, slots=True)
class Member:
    """A process in a pod's cgroup. `netns`: inode number of its network namespace."""

    pid: int
    started: int
    netns: int


def witness(
    members: Iterable[Member], *, node: int, held: int | None = None
) -> Member | None:
    """
    The process that is in the pod's network namespace; None while there is none.

    `node` is the node's own namespace: a runtime's monitor may sit in the pod's cgroup
    (CRI-O's conmon), and a container's first process before it enters. `held` is the
    namespace known so far: it stays as long as one process is in it, for a process with
    CAP_SYS_ADMIN can make itself another. Else the oldest process counts: the sandbox's
    own, which runs before any container.
    """
    inside = sorted(
        (member for member in members if member.netns != node),
        key=lambda member: (member.started, member.pid),
    )
    stays = (member for member in inside if member.netns == held)
    return next(stays, inside[0] if inside else None)
