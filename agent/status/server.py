"""
The status socket: HTTP/1.1 with JSON on a Unix socket, for `podlock` and for curl.

    curl --unix-socket /run/podlock/agent.sock http://localhost/v1/status

It only tells and never does, and only to its owner: the file's mode is 0600.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import trio

from agent.errors import InputError
from agent.log import logger
from agent.status import filters, routes
from agent.status.documents import Name
from agent.status.http import Application, Message, Receive, Send, live, serve_on

# sun_path in <sys/un.h> has 108 bytes, the last of which is 0.
MAX_SOCKET_PATH_BYTES: Final = 107
BACKLOG: Final = 64

log = logger(part="status")


class SocketUnavailable(InputError):
    """The status socket cannot be at the path that the configuration names."""


class Reporter(Protocol):
    """Who knows the answers; `agent.app` does."""

    async def document(self, name: Name) -> dict[str, Any]:
        """The named document as it is now (shapes: `agent.status.documents`)."""
        ...


async def serve(
    path: Path,
    reporter: Reporter,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Answer on the Unix socket at `path` until cancelled; the socket goes with us.

    Raises: SocketUnavailable, before it starts, if another process answers there.
    """
    with bound(path) as listener:
        await serve_on(listener, application(reporter), task_status=task_status)


def application(reporter: Reporter) -> Application:
    """The ASGI application (ASGI 3.0, https://asgi.readthedocs.io)."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["type"] == "http":
            await _respond(send, *await _answer(scope, reporter))
        else:
            await send({"type": "websocket.close"})

    return app


async def _answer(scope: Message, reporter: Reporter) -> tuple[int, dict[str, Any]]:
    """The status and the document that one request gets."""
    try:
        query_string = scope["query_string"].decode("latin-1")
        query = routes.parse(scope["method"], scope["path"], query_string)
        if query.name is None:
            return 200, {"paths": routes.paths()}
        document = await reporter.document(query.name)
        known = await _catalogue(reporter) if query.needs_catalogue else {}
        return 200, routes.select(query, document, known)
    except routes.BadRequest as refused:
        return refused.status, {"error": str(refused), "paths": routes.paths()}
    except Exception as error:
        # Whoever asks how we are must learn that this part is broken, and the agent
        # must not die of being asked.
        log.exception("status request failed", path=scope["path"])
        return 500, {"error": f"{type(error).__name__}: {error}"}


async def _catalogue(reporter: Reporter) -> dict[filters.Catalogue, set[str]]:
    """The names of all workloads, for questions about what they do."""
    return filters.catalogue((await reporter.document("workloads"))["workloads"])


async def _respond(send: Send, status: int, document: dict[str, Any]) -> None:
    body = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *([(b"allow", b"GET")] if status == 405 else []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def bound(path: Path) -> Iterator[socket.socket]:
    """
    A listening socket at `path`, mode 0600; the file goes at the end.

    A socket that a dead process left is replaced. Raises: SocketUnavailable.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise SocketUnavailable(
            f"{path}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _clear(path)
            _bind(listener, path)
        except OSError as error:
            raise SocketUnavailable(f"{path}: {error.strerror}") from error
        ours = path.stat().st_ino
        try:
            yield listener
        finally:
            # Only our own: a successor may have put its socket there already.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == ours:
                    path.unlink()


def _bind(listener: socket.socket, path: Path) -> None:
    # The mode must be right from the first moment, so it cannot come by chmod.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises: SocketUnavailable."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketUnavailable(f"{path}: expected a socket or nothing")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a full backlog is a live process, too
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except BlockingIOError:
        pass
    raise SocketUnavailable(f"{path}: another agent answers there")
