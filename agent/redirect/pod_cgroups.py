"""
Where the processes of a pod are, by the names that kubelets give cgroups. Pure.

A kubelet makes a cgroup for each pod, named by its uid, and the runtime one for each
container in it. Two drivers spell them differently, the same in cgroup v1 and v2:

    cgroupfs  kubepods/burstable/pod<uid>/<container>
    systemd   kubepods.slice/kubepods-burstable.slice/
                kubepods-burstable-pod<uid>.slice/cri-containerd-<container>.scope
                (the uid with _ in place of -)

A pod of class Guaranteed is right below the root. The root may lie deeper (a cgroup of
the node's own) or have a prefix (kubelet-kubepods.slice in kind). CRI-O writes
crio-<container>, and crio-conmon-<container> for its monitor, which is no process of
the pod. Source: kubelet's cgroup manager; containerd's and CRI-O's cgroup names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.errors import InputError

_HEX: Final = "[0-9a-f]"
_POD: Final = re.compile(
    rf"(?:[\w.-]*-)?pod({_HEX}{{8}}(?:[-_]{_HEX}{{4}}){{3}}[-_]{_HEX}{{12}})(?:\.slice)?"
)
_ROOT: Final = re.compile(r"(?:[\w-]+-)?kubepods(?:\.slice)?")
_CLASS: Final = re.compile(r"(?:[\w-]+-)?(?:burstable|besteffort)(?:\.slice)?")
# In cgroup.procs every process is of the pod, in the container's own cgroup or one that
# it made below; the monitors of CRI-O and Podman live on the host's network.
_MONITOR: Final = re.compile(r"(?:crio-|libpod-)?conmon-.*")


class InvalidProcess(InputError):
    """A file of /proc that is not what proc(5) says."""


def is_root(name: str) -> bool:
    """Whether a directory is where a kubelet keeps its pods."""
    return _ROOT.fullmatch(name) is not None


def is_class(name: str) -> bool:
    """Whether a directory below a root holds the pods of one quality of service."""
    return _CLASS.fullmatch(name) is not None and _POD.fullmatch(name) is None


def pod_uid(name: str) -> str | None:
    """
    The uid of the pod that a directory is named by; None if it is none.

    A static pod has the hash of its file there, which is no uid of the API server's:
    such a pod is never found, and so never in the mesh.
    """
    found = _POD.fullmatch(name)
    return found[1].replace("_", "-") if found else None


def is_container(name: str) -> bool:
    """Whether a directory in a pod's holds processes of the pod."""
    return _MONITOR.fullmatch(name) is None


def belongs(cgroups: str, uid: str) -> bool:
    """
    Whether a process is one of a pod's, by its /proc/PID/cgroup (cgroups(7)).

    Asked once its namespace is open: a process id is used again, and then this says so.
    """
    for line in cgroups.splitlines():
        path = line.split(":", 2)[-1]
        parts = path.split("/")
        if any(pod_uid(part) == uid for part in parts):
            return all(is_container(part) for part in parts)
    return False


@dataclass(frozen=True, slots=True, order=True)
class Process:
    """A process by when it started, in ticks since boot, and its id then."""

    started: int
    pid: int


def started_ticks(stat: str) -> int:
    """
    Field 22 of /proc/PID/stat; the name before may hold spaces and parentheses.

    Raises: InvalidProcess.
    """
    fields = stat.rpartition(")")[2].split()
    try:
        return int(fields[19])
    except (IndexError, ValueError) as error:
        raise InvalidProcess(f"stat: no start time in {stat[:80]!r}") from error


def by_age(processes: Iterable[Process]) -> list[Process]:
    """
    The oldest first: the sandbox's own process, which holds the pod's namespace.

    A younger one may have left it for one that it made, as a container engine inside a
    container does.
    """
    return sorted(processes)


def parse_pids(procs: str) -> list[int]:
    """
    The processes of a cgroup.procs.

    0 stands for one that is not to be seen from our own pid namespace.
    """
    return [int(line) for line in procs.split() if line.isdigit() and int(line) > 0]
