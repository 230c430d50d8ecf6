"""
The mount table, read: where cgroup v2 is, and what lies under a path.

Source: proc(5), /proc/PID/mounts: device, mount point, type, options, two numbers;
space, tab, newline and backslash in octal. Later lines cover earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line: a mount point and its file system's type."""

    point: Path
    kind: str


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """The table in its order; a line with too few fields is none of ours."""
    rows = (line.split(" ") for line in text.splitlines())
    return tuple(
        Mount(Path(_OCTAL.sub(lambda m: chr(int(m[1], 8)), row[1])), row[2])
        for row in rows
        if len(row) >= 3
    )


def cgroup2_root(mounts: Sequence[Mount]) -> Path | None:
    """The first cgroup v2 hierarchy; on hybrid systems it is not /sys/fs/cgroup."""
    return next((mount.point for mount in mounts if mount.kind == "cgroup2"), None)


def process_hierarchies(mounts: Sequence[Mount]) -> list[Path]:
    """
    Where the processes of containers are found: v2, and of v1 what runtimes always use.

    A container is at the same path in each of v1's dozen hierarchies; one would do, and
    two survive a runtime that leaves one out.
    """
    two = [mount.point for mount in mounts if mount.kind == "cgroup2"]
    one = [mount.point for mount in mounts if mount.kind == "cgroup"]
    usual = [point for point in one if {"memory", "pids"} & set(point.name.split(","))]
    return two + (usual or one)


def covering(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that `path` lies in: the deepest, and of two equal ones the later."""
    found = None
    for mount in mounts:
        deep_enough = found is None or len(mount.point.parts) >= len(found.point.parts)
        if deep_enough and path.is_relative_to(mount.point):
            found = mount
    return found
