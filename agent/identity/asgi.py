"""
What an HTTP endpoint needs of ASGI: bodies with a limit, JSON answers, streams.

Source: ASGI 3.0, HTTP and lifespan message formats.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, Final

import trio

from agent.errors import PodlockError

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON: Final = (b"content-type", b"application/json")
NDJSON: Final = (b"content-type", b"application/x-ndjson")


class HttpRefusal(PodlockError):
    """A request that ends in an error document."""

    def __init__(
        self, status: int, reason: str, message: str, headers: Headers = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """A request's whole body. Raises: HttpRefusal (400, 413)."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpRefusal(400, "malformed_request", "body: ended early")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit_bytes:
            raise HttpRefusal(413, "too_large", f"body: over {limit_bytes} bytes")
    return bytes(body)


async def send_json(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """One answer, whole."""
    length = (b"content-length", b"%d" % len(body))
    every = [JSON, length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_lines(
    receive: Receive,
    send: Send,
    lines: AsyncGenerator[bytes, None],
    *,
    heartbeat: timedelta,
    patience: timedelta,
) -> None:
    """
    Send lines as they come until the client leaves; an empty line when none came.

    A client that takes nothing for as long as `patience` is left.
    """
    out, queue = trio.open_memory_channel[bytes](0)

    async def produce() -> None:
        async with out, aclosing(lines):
            async for line in lines:
                await out.send(line)

    async def notice_the_end(scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        nursery.start_soon(notice_the_end, nursery.cancel_scope)
        head = {"type": "http.response.start", "status": 200, "headers": [NDJSON]}
        await send(head)
        while True:
            line = b""
            with trio.move_on_after(heartbeat.total_seconds()):
                line = await queue.receive()
            with trio.move_on_after(patience.total_seconds()) as waited:
                body = {"body": line + b"\n", "more_body": True}
                await send({"type": "http.response.body", **body})
            if waited.cancelled_caught:
                nursery.cancel_scope.cancel()


async def lifespan(receive: Receive, send: Send) -> None:
    """Take part in the server's start and end."""
    while True:
        match (await receive())["type"]:
            case "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            case "lifespan.shutdown":
                await send({"type": "lifespan.shutdown.complete"})
                return
