"""What a result was measured on: without it a figure says nothing."""

from __future__ import annotations

import platform
import ssl
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from tests.bench import peers
from tests.bench.peers import Peer
from tests.bench.world import cores
from tests.lab.identity import REPOSITORY


@dataclass(frozen=True, slots=True)
class Stamp:
    """Machine, moment and versions. `busy` is the load average as it began."""

    moment: str
    kernel: str
    cpu: str
    cores: int
    memory_bytes: int
    busy: float
    versions: dict[str, str]

    def document(self) -> dict[str, Any]:
        """As data."""
        return {
            "moment": self.moment,
            "kernel": self.kernel,
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "load_average": self.busy,
            "versions": self.versions,
        }

    def line(self) -> str:
        """In one line, for under a plot."""
        memory = round(self.memory_bytes / 2**30)
        machine = f"{self.cores} cores of {self.cpu}, {memory} GiB"
        return f"{self.moment[:10]}, Linux {self.kernel}, {machine}"


def taken(entered: Iterable[Peer]) -> Stamp:
    """The stamp of this machine, now."""
    versions = {
        "podlock": revision(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "trio": trio.__version__,
        **{peer.name: peers.version(peer) for peer in entered},
    }
    return Stamp(
        moment=datetime.now(UTC).isoformat(timespec="seconds"),
        kernel=platform.release(),
        cpu=field(Path("/proc/cpuinfo").read_text(), "model name") or "unknown",
        cores=cores(),
        memory_bytes=kibibytes(field(Path("/proc/meminfo").read_text(), "MemTotal")),
        busy=float(Path("/proc/loadavg").read_text().split()[0]),
        versions=versions,
    )


def revision() -> str:
    """The commit that is measured, marked where files differ from it."""
    argv = ["git", "describe", "--always", "--dirty", "--tags"]
    done = subprocess.run(
        argv, text=True, capture_output=True, check=False, cwd=REPOSITORY
    )
    return done.stdout.strip() or "unknown"


def field(text: str, name: str) -> str:
    """The first value of `name` in a /proc file of `name : value` lines, or nothing."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return ""


def kibibytes(text: str) -> int:
    """`24105 kB` of /proc in bytes; nothing is 0."""
    number = text.removesuffix("kB").strip()
    return int(number) * 1024 if number.isdigit() else 0
