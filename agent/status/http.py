"""
HTTP/1.1 on a listener of ours: what the status socket and the readiness port share.

Source: ASGI 3.0, https://asgi.readthedocs.io.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import hypercorn
import hypercorn.trio
import trio

SHUTDOWN_SECONDS: Final = 1.0

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


async def serve_on(
    listener: socket.socket,
    application: Application,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on `listener`, which is ours from now on, until cancelled."""
    descriptor = listener.detach()
    config = hypercorn.Config()
    config.bind = [f"fd://{descriptor}"]
    config.errorlog = None
    config.graceful_timeout = SHUTDOWN_SECONDS
    config.include_server_header = False
    # Who asks, asks once. hypercorn keeps a connection for its idle time, 5 s, also
    # when the client has left.
    config.keep_alive_max_requests = 1
    async with trio.open_nursery() as nursery:
        await nursery.start(hypercorn.trio.serve, application, config)
        # hypercorn lets children inherit it; our workers have no use for it.
        os.set_inheritable(descriptor, False)
        task_status.started()


async def live(receive: Receive, send: Send) -> None:
    """Answer the lifespan protocol: we have nothing to start or to end."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
