"""
hold.py HOST PORT: one HTTP connection that stays open and asks five times a second.

Prints {"event": "answer", "at"} for each answer and {"event": "closed", "why", "at"}
at the end; `at` is CLOCK_MONOTONIC in seconds, the same for every process.
"""

# ruff: noqa: T201 (what it prints is its answer)

import contextlib
import json
import socket
import sys
import time


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **facts}), flush=True)


def wait_readable(sock: socket.socket, seconds: float) -> bytes | None:
    """What arrives within a time; None when nothing does, b"" at the end."""
    sock.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        return sock.recv(65536)
    return None


host, port = sys.argv[1], int(sys.argv[2])
why = "end of file"
try:
    with socket.create_connection((host, port), timeout=10) as sock:
        while True:
            sock.settimeout(10)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: hold\r\n\r\n")
            if not sock.recv(65536):
                break
            tell("answer")
            # Between questions nothing is expected but the end.
            if wait_readable(sock, 0.2) == b"":
                break
except OSError as error:
    why = type(error).__name__
tell("closed", why=why)
