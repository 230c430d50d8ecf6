"""
knock.py HOST PORT [PAUSE]: HTTP requests, each on a connection of its own.

Prints {"event": "served", "at"} or {"event": "refused", "at"} whenever that is another
answer than before; {"event": "count", "served", "refused", "at"} four times a second.
`at` is CLOCK_MONOTONIC in seconds at which the last answer was known.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import socket
import sys
import time

PAUSE_SECONDS = 0.005
COUNT_SECONDS = 0.25


def answer(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=5) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return "served" if sock.recv(65536) else "refused"
    except OSError:
        return "refused"


def tell(event: str, at: float, **facts: int) -> None:
    print(json.dumps({"event": event, "at": at, **facts}), flush=True)


pause = float(sys.argv[3]) if len(sys.argv) > 3 else PAUSE_SECONDS
counts = {"served": 0, "refused": 0}
before, counted = "", 0.0
while True:
    now = answer(sys.argv[1], int(sys.argv[2]))
    known = time.monotonic()
    counts[now] += 1
    if now != before:
        tell(now, known)
        before = now
    if known - counted > COUNT_SECONDS:
        tell("count", known, **counts)
        counted = known
    time.sleep(pause)
