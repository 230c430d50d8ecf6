"""
Readiness and liveness for the kubelet: two paths over plain HTTP on loopback.

    /readyz    200 while the agent serves this node, else 503 and why, a line each
    /livez     200 for as long as anybody answers

Who stands on the node may read it, so it names no pod and no identity.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

import trio

from agent.addresses import SocketAddress
from agent.status.http import Application, Message, Receive, Send, live, serve_on

BACKLOG: Final = 16
RETRY_SECONDS: Final = 0.05
PATIENCE_SECONDS: Final = 10.0

Reasons = Callable[[], Sequence[str]]


async def serve(
    bind: SocketAddress,
    reasons: Reasons,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Answer at `bind` until cancelled; `reasons` are why the agent is not ready.

    An agent before us may let go of the address a moment later. Raises: OSError where
    it cannot be bound.
    """
    listener = await _listening(bind)
    await serve_on(listener, application(reasons), task_status=task_status)


async def _listening(bind: SocketAddress) -> socket.socket:
    deadline = trio.current_time() + PATIENCE_SECONDS
    family = socket.AF_INET6 if bind.ip.version == 6 else socket.AF_INET
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(bind.ip), bind.port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            late = trio.current_time() > deadline
            if late or error.errno != errno.EADDRINUSE:
                raise
            await trio.sleep(RETRY_SECONDS)
        else:
            return listener


def application(reasons: Reasons) -> Application:
    """The ASGI application."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        status, text = answer(scope.get("method", ""), scope["path"], reasons)
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": text.encode()})

    return app


def answer(method: str, path: str, reasons: Reasons) -> tuple[int, str]:
    """The status and text that a request gets."""
    if method not in {"GET", "HEAD"} or path not in {"/readyz", "/livez"}:
        return 404, "there are: GET /readyz, GET /livez\n"
    faults = reasons() if path == "/readyz" else ()
    if faults:
        return 503, "".join(f"{fault}\n" for fault in faults)
    return 200, "ok\n"
