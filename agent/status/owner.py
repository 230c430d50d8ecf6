"""Which process is behind a Unix socket that does not answer, and its state (edge)."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Final

# proc_pid_stat(5), the third field.
_STATES: Final = {
    "R": "running: busy",
    "S": "sleeping",
    "D": "waiting for a disk or for memory (D): it cannot be interrupted",
    "T": "stopped by a signal (T): `kill -CONT {pid}` lets it go on",
    "t": "stopped by a debugger (t)",
    "Z": "ended, and its parent has not noticed (Z)",
}
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7)
_SWAPPED: Final = "VmSwap:"


def owner_of(path: Path) -> str | None:
    """The listening process and its state, in words; None if it cannot be found."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a full backlog must not hold us up
            probe.connect(str(path))
            size = _CREDENTIALS.size
            found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, _, _ = _CREDENTIALS.unpack(found)
        return _described(pid, Path("/proc") / str(pid))
    except OSError:
        return None


def _described(pid: int, proc: Path) -> str:
    # The name stands in parentheses and may hold any sign, these too.
    state = (proc / "stat").read_text().rpartition(")")[2].split()[0]
    words = _STATES.get(state, f"in state {state}").format(pid=pid)
    swapped = _swapped_kilobytes((proc / "status").read_text())
    if swapped:
        words += f"; {swapped // 1024} MB of it are swapped out"
    return f"process {pid} is {words}"


def _swapped_kilobytes(status: str) -> int:
    for line in status.splitlines():
        if line.startswith(_SWAPPED):
            return int(line.removeprefix(_SWAPPED).split()[0])
    return 0
