"""
What each descriptor of a process is, so that a leak has a name and not just a number.

"/dev/bpf" and "anon_inode:[eventpoll]" are the kernel's own words, from /proc/PID/fd;
a socket is told by its protocol, state and peer, from proc(5)'s /proc/PID/net.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

Held = Mapping[str, Counter[str]]
"""{"n1 control": {"tcp ESTABLISHED with 10.0.0.9:8443": 2}}"""

_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
# include/net/tcp_states.h
_STATES: Final = (
    "?", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT",
    "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
_WORD_BYTES: Final = 4


def held(pids: Mapping[str, int]) -> dict[str, Counter[str]]:
    """Every descriptor of some processes, by what it is."""
    return {name: Counter(_descriptors(pid)) for name, pid in pids.items()}


def more(before: Held, after: Held) -> dict[str, dict[str, int]]:
    """What a process holds more of than before; who holds no more is left out."""
    grown = {name: there - before.get(name, Counter()) for name, there in after.items()}
    return {name: dict(there) for name, there in grown.items() if there}


def _descriptors(pid: int) -> Iterator[str]:
    sockets = dict(_sockets(Path(f"/proc/{pid}/net")))
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            target = os.readlink(entry.path)
            found = _SOCKET.fullmatch(target)
            yield sockets.get(found[1], "socket elsewhere") if found else target


def _sockets(directory: Path) -> Iterator[tuple[str, str]]:
    """The inode and the description of each socket of a network namespace."""
    for protocol in ("tcp", "tcp6"):
        for fields in _rows(directory / protocol):
            yield fields[9], f"{protocol} {_tcp(*fields[1:4])}"
    for fields in _rows(directory / "unix"):
        yield fields[6], f"unix {' '.join(fields[7:]) or 'without a name'}"


def _tcp(local: str, remote: str, state: str) -> str:
    name = _STATES[int(state, 16)]
    where = f"on {endpoint(local)}" if name == "LISTEN" else f"with {endpoint(remote)}"
    return f"{name} {where}"


def _rows(path: Path) -> Iterator[list[str]]:
    for line in path.read_text().splitlines()[1:]:
        yield line.split()


def endpoint(text: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8080: words of four bytes, each in host order."""
    digits, port = text.split(":")
    raw = bytes.fromhex(digits)
    words = (raw[at : at + _WORD_BYTES][::-1] for at in range(0, len(raw), _WORD_BYTES))
    address = ipaddress.ip_address(b"".join(words))
    return f"{address}:{int(port, 16)}"
