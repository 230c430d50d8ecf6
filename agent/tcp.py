"""
TCP options of every connection that the agent carries, and how one ends.

A connection ends in order only if its other side ended in order; everything else is a
reset. The kernel closes the sockets of a process that dies, and an end by FIN is what
a reader takes for the end of a transfer. So an application's socket is armed as long as
its connection is open: SO_LINGER with a time of 0 makes every close a reset (socket(7),
tcp_close in the kernel). `close_in_order` disarms it first.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final

# As ztunnel: idle connections have no other limit, and keep-alive finds the peers that
# vanished. Nine probes, three minutes apart.
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 180),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 180),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 9),
    # Nagle's delay would add up with the application's own.
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # An urgent byte (MSG_OOB) stays at its place in the stream (RFC 6093 section 4).
    (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
)
LINGER_RESET: Final = struct.pack("ii", 1, 0)
LINGER_NONE: Final = struct.pack("ii", 0, 0)


def tune(sock: socket.socket) -> None:
    """
    Set them; on a listener before `listen`, then what it accepts inherits them.

    A connection that was reset already takes no options; whoever uses it will see.
    """
    with contextlib.suppress(OSError):
        for level, option, value in _OPTIONS:
            sock.setsockopt(level, option, value)


def arm(sock: socket.socket) -> None:
    """
    Make every close of an application's socket a reset, also the kernel's for a process
    that died. What an armed listener accepts is armed.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


def close_in_order(sock: socket.socket) -> None:
    """Close an application's socket; bytes already written still arrive."""
    if sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        sock.close()


def close_hard(sock: socket.socket) -> None:
    """Close an application's socket with a reset (RST), so that it sees the failure."""
    if sock.fileno() >= 0:
        arm(sock)
        sock.close()
