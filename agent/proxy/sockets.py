"""Two ways to close an application's socket."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Final

LINGER_RESET: Final = struct.pack("ii", 1, 0)


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
