"""
What everything in a lab is called and where it is addressed.

A *run* names one lab: `podlock-demo`, or `podlock-` and random letters for a test.
Every namespace, cgroup, pin and folder of a lab carries its run, so that two labs
live side by side and whatever a crashed one left is found by name alone. Addresses
are the same in every lab: namespaces isolate them, and nothing touches the host's.

    10.244.N.0/24, fd00:244:N::/64      pods of node N, gateway .1
    172.31.N.0/24, fd00:31:N::/64       node N's link to the wire: wire .1, node .2
    10.96.0.0/16,  fd00:96::/112        Services
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUN_PREFIX: Final = "podlock-"
DEMO_RUN: Final = "podlock-demo"

POD_NETWORKS: Final = ("10.244.0.0/16", "fd00:244::/32")
NETNS_DIRECTORY: Final = Path("/run/netns")
PIN_ROOT: Final = Path("/sys/fs/bpf")
RUN_ROOT: Final = Path("/run")

# No dash after the prefix: `podlock-a` must not find what `podlock-a-b` made.
_RUN: Final = re.compile(r"podlock-[a-z0-9]{1,16}", re.ASCII)
_PART: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)


class InvalidName(ValueError):
    """A run, node or pod name that could not be told apart from another's."""


@dataclass(frozen=True, slots=True)
class DualStack:
    """One IPv4 and one IPv6 address of the same thing."""

    v4: str
    v6: str

    @property
    def mapped(self) -> str:
        """The IPv4 address as a dual-stack socket writes it (RFC 4291 2.5.5.2)."""
        return f"::ffff:{self.v4}"

    def __iter__(self) -> Iterator[str]:
        return iter((self.v4, self.v6))


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one run; `cgroup2` is where cgroup v2 is mounted."""

    run: str
    cgroup2: Path

    def __post_init__(self) -> None:
        if not _RUN.fullmatch(self.run):
            raise InvalidName(f"run {self.run!r}: 'podlock-', letters and digits")

    @property
    def prefix(self) -> str:
        """What the name of each of this run's network namespaces starts with."""
        return f"{self.run}-"

    def namespace(self, *parts: str) -> str:
        """A network namespace: `podlock-demo-n1`, `podlock-demo-n1-web`."""
        return "-".join((self.run, *map(checked_part, parts)))

    def namespace_path(self, *parts: str) -> Path:
        """The file that `nsenter --net=` and `podlock.io/netns` name."""
        return NETNS_DIRECTORY / self.namespace(*parts)

    @property
    def cgroup(self) -> Path:
        """The run's own cgroup: all of its processes are below it."""
        return self.cgroup2 / self.run

    def pod_cgroup(self, node: str, pod: str) -> Path:
        """Where a pod's processes live; its parent is the node's redirect cgroup."""
        return self.cgroup / checked_part(node) / checked_part(pod)

    def host_cgroup(self, name: str) -> Path:
        """Agents, captures: outside of every node's redirect cgroup."""
        return self.cgroup / "host" / checked_part(name)

    @property
    def pins(self) -> Path:
        """The run's folder of pinned programs, links and maps."""
        return PIN_ROOT / self.run

    @property
    def run_directory(self) -> Path:
        """Sockets, configuration, logs and captures."""
        return RUN_ROOT / self.run


def checked_part(name: str) -> str:
    """`name`, if it can be part of a lab name. Raises: InvalidName."""
    if not _PART.fullmatch(name):
        raise InvalidName(f"{name!r}: lower-case letters, digits and inner dashes")
    return name


def pod_address(node: int, index: int) -> DualStack:
    """The addresses of the pod `index` (0 to 200) of node `node` (1 to 9)."""
    if not (1 <= node <= 9 and 0 <= index <= 200):
        raise InvalidName(f"node {node}, pod {index}: nodes are 1-9, pods 0-200")
    host = 10 + index
    return DualStack(f"10.244.{node}.{host}", f"fd00:244:{node}::{host}")


def gateway_address(node: int) -> DualStack:
    """The node's bridge, as its pods see it."""
    return DualStack(f"10.244.{node}.1", f"fd00:244:{node}::1")


def node_address(node: int) -> DualStack:
    """The node itself, on its link to the wire."""
    return DualStack(f"172.31.{node}.2", f"fd00:31:{node}::2")


def wire_address(node: int) -> DualStack:
    """The router's end of a node's link."""
    return DualStack(f"172.31.{node}.1", f"fd00:31:{node}::1")


def service_address(index: int) -> DualStack:
    """The virtual addresses of the Service `index` (0 to 200)."""
    if not 0 <= index <= 200:
        raise InvalidName(f"service {index}: 0 to 200")
    return DualStack(f"10.96.0.{10 + index}", f"fd00:96::{10 + index}")


def find_cgroup2(mounts: str) -> Path:
    """
    Where cgroup v2 is mounted, from the text of /proc/mounts.

    Raises: InvalidName where it is mounted nowhere.
    """
    for line in mounts.splitlines():
        _device, point, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(point)
    raise InvalidName("cgroup v2 is not mounted (looked in /proc/mounts)")
