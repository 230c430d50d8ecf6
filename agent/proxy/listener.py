"""Accept loops on a pod's listeners."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from agent.addresses import SocketAddress
from agent.log import logger
from agent.proxy.sockets import tune

log = logger()

Serve = Callable[[socket.socket, SocketAddress], Awaitable[None]]

# After this many connections in a row the other tasks get a turn.
BATCH: Final = 32
# Out of file descriptors or memory: accept() would fail again at once.
PAUSE_SECONDS: Final = 0.1


async def accept_loop(
    listener: socket.socket, serve: Serve, nursery: trio.Nursery
) -> None:
    """
    Start `serve(connection, peer)` in `nursery` for each connection; `serve` owns the
    socket. Ends when the listener is closed.
    """
    while listener.fileno() >= 0:
        try:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(BATCH):
                sock, peer = listener.accept()
                sock.setblocking(False)
                tune(sock)
                nursery.start_soon(serve, sock, SocketAddress.of(peer))
        except BlockingIOError:
            continue
        except ConnectionError:
            continue  # it came and went before we looked
        except trio.ClosedResourceError:
            return
        except OSError as error:
            log.warning("accept failed", error=error.strerror)
            await trio.sleep(PAUSE_SECONDS)
