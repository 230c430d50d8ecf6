"""TCP options of every connection that the agent carries."""

from __future__ import annotations

import contextlib
import socket
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
)


def tune(sock: socket.socket) -> None:
    """
    Set them; on a listener before `listen`, then what it accepts inherits them.

    A connection that was reset already takes no options; whoever uses it will see.
    """
    with contextlib.suppress(OSError):
        for level, option, value in _OPTIONS:
            sock.setsockopt(level, option, value)
