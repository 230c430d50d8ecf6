"""
Where it is measured: two nodes, a wire, and the same pods twice.

    node 1: client, near        node 2: far            nobody's traffic is touched
    node 1: web, api            node 2: depot          meshed by Podlock

    node 3: caller, callee      meshed, by an agent with `same_node: direct`

`near`, `api` and `callee` are reached inside a node, `far` and `depot` across the wire.
"""

from __future__ import annotations

import dataclasses
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tests.bench.load import Load
from tests.lab import system
from tests.lab.pod import Pod
from tests.lab.topology import Lab

RUN: Final = "podlock-bench"
NAMESPACE: Final = "shop"
FILES: Final = 65_536

Scope = Literal["same-node", "cross-node"]
SCOPES: Final[tuple[Scope, ...]] = ("cross-node", "same-node")


@dataclass(frozen=True, slots=True)
class Route:
    """
    How a client reaches the application of a scope by way of a contestant.

    `cgroups` hold the processes that the contestant needs for it, and nothing else;
    `rest_bytes` is their memory before anybody has asked anything of them.
    `sockets_each` is how many one of the processes on the way has for a connection.
    """

    client: Pod
    address: str
    port: int
    cgroups: tuple[Path, ...]
    rest_bytes: int = 0
    sockets_each: int = 1


@dataclass(frozen=True, slots=True)
class Pods:
    """One client, and a server in each scope."""

    client: Pod
    servers: dict[Scope, Pod]


@dataclass(frozen=True, slots=True)
class World:
    """
    The lab of a run; `plain` pods are nobody's, `meshed` and `direct` ones Podlock's.
    """

    lab: Lab
    load: Load
    plain: Pods
    meshed: Pods
    direct: Pods


@contextmanager
def built(run: str = RUN) -> Iterator[World]:
    """The pods with their servers, gone after the block, however it ends."""
    raise_file_limit()
    with Lab(run, ("n1", "n2", "n3")) as lab:
        load = Load.compile(lab.directory)
        plain = _pods(lab, "client", "near", "far", watched=False)
        meshed = _pods(lab, "web", "api", "depot", watched=True)
        n3 = lab.nodes["n3"]
        callee = n3.add_pod("callee", NAMESPACE)
        direct = Pods(n3.add_pod("caller", NAMESPACE), {"same-node": callee})
        for pods in (plain, meshed, direct):
            for pod in pods.servers.values():
                load.serve(pod)
        yield World(lab, load, plain, meshed, direct)


def _pods(lab: Lab, client: str, near: str, far: str, *, watched: bool) -> Pods:
    def make(node: str, name: str) -> Pod:
        pod = lab.nodes[node].add_pod(name, NAMESPACE)
        if watched:
            return pod
        # Not even passed over by Podlock's hooks: these belong to the node's cgroup.
        cgroup = lab.host_cgroup(f"plain-{name}")
        return dataclasses.replace(pod, cgroup=cgroup)

    servers: dict[Scope, Pod] = {
        "same-node": make("n1", near),
        "cross-node": make("n2", far),
    }
    return Pods(make("n1", client), servers)


def raise_file_limit() -> None:
    """Let everything that is started here hold tens of thousands of sockets."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with suppress(ValueError, OSError):  # above it only where root may
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(FILES, hard),) * 2)


def most_connections(sockets_each: int) -> int:
    """
    How many connections a process can hold here, with so many sockets for each.

    The limits of haproxy and stunnel follow from that of files; a tenth is theirs.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = FILES
    return max(hard * 9 // 10 // sockets_each // 1000, 1) * 1000


def cpu_seconds(cgroups: tuple[Path, ...]) -> float:
    """The CPU time that all that ever ran in these cgroups has used."""
    microseconds = 0
    for cgroup in cgroups:
        for line in (cgroup / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                microseconds += int(value)
    return microseconds / 1e6


def memory(cgroups: tuple[Path, ...]) -> int:
    """The PSS of all processes in these cgroups, in bytes."""
    pids = [pid for cgroup in cgroups for pid in system.processes_in(cgroup)]
    return system.proportional_memory(pids)


def cores() -> int:
    """How many cores there are to use."""
    return len(os.sched_getaffinity(0))
