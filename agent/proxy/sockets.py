"""How the proxy treats applications' sockets: options, and two ways to close."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Final

LINGER_RESET: Final = struct.pack("ii", 1, 0)


def tune(sock: socket.socket) -> None:
    """
    Options of every connection the proxy carries.

    Nagle's delay would add up with the application's own; keep-alive finds peers that
    vanished (180 s, as ztunnel has it), because idle connections have no other limit.
    A connection that was reset already takes no options; whoever uses it will see.
    """
    with contextlib.suppress(OSError):
        _tune(sock)


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 180)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 180)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 9)


@contextlib.contextmanager
def closing(sock: socket.socket) -> Iterator[None]:
    """Close in order after the block, and with a reset when the block failed."""
    try:
        yield
    except BaseException:
        close_hard(sock)
        raise
    close_in_order(sock)


def close_in_order(sock: socket.socket) -> None:
    """Close an application's socket; bytes already written still arrive."""
    sock.close()


def close_hard(sock: socket.socket) -> None:
    """Close an application's socket with a reset (RST), so that it sees the failure."""
    if sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        close_in_order(sock)
