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

# Every worker waits at the same accept queue, and all wake when somebody comes. After
# this many in a row we leave the next ones to the others for a moment, or the first
# awake would take a burst whole.
BATCH: Final = 8
TURN_SECONDS: Final = 0.001
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
            await trio.sleep(TURN_SECONDS)
        except BlockingIOError:
            continue
        except ConnectionError:
            continue  # it came and went before we looked
        except trio.ClosedResourceError:
            return
        except OSError as error:
            log.warning("accept failed", error=error.strerror)
            await trio.sleep(PAUSE_SECONDS)
