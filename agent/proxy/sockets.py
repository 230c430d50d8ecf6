"""The end of an application's socket: in order, or by a reset."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from agent.tcp import arm, close_hard, close_in_order


@contextmanager
def closing(sock: socket.socket) -> Iterator[None]:
    """
    Close in order after the block, and with a reset when the block failed, or when
    this process ends within it.
    """
    arm(sock)
    try:
        yield
    except BaseException:
        close_hard(sock)
        raise
    close_in_order(sock)
