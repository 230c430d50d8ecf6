"""
What an application has said before its connection is there, ahead of the answer.

A client writes its request as soon as `connect` returns, which in its pod is at once.
To send that along with the CONNECT saves a round trip to the far node. The bytes are
only looked at (MSG_PEEK) and stay in the application's socket until the answer is 200:
nothing is lost where the answer is no.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.proxy.tunnel import Tunnel

# The first request of most protocols, and no more than a TLS record holds with it.
EARLY_BYTES: Final = 14_000
# What is received into here was sent before.
_TWICE: Final = memoryview(bytearray(EARLY_BYTES))


def send_early(app: socket.socket, tunnel: Tunnel, stream_id: int) -> int:
    """Send what `app` has to read now, at most `EARLY_BYTES`; how much it was."""
    room = min(tunnel.codec.sendable(stream_id), EARLY_BYTES)
    space = tunnel.sender.space() if room else None
    if space is None:
        return 0
    count = 0
    try:
        count = app.recv_into(space, min(room, len(space)), socket.MSG_PEEK)
    except OSError:
        pass  # nothing yet, or it was reset, which the relay will find
    finally:
        tunnel.commit(stream_id, count)
    return count


def skip_early(app: socket.socket, count: int) -> None:
    """Take out of the socket what `send_early` sent. Raises: OSError."""
    while count:
        taken = app.recv_into(_TWICE, count)
        if not taken:
            raise ConnectionAbortedError("bytes that were there are gone")
        count -= taken
