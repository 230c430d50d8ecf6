"""
knock.py HOST PORT: one HTTP request after the other, each on a connection of its own.

Prints {"event": "served", "at"} or {"event": "refused", "at"} whenever that is another
answer than before; `at` is CLOCK_MONOTONIC in seconds at which that connection began.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import socket
import sys
import time

PAUSE_SECONDS = 0.005


def answer(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=5) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return "served" if sock.recv(65536) else "refused"
    except OSError:
        return "refused"


before = ""
while True:
    began = time.monotonic()
    now = answer(sys.argv[1], int(sys.argv[2]))
    if now != before:
        print(json.dumps({"event": now, "at": began}), flush=True)
        before = now
    time.sleep(PAUSE_SECONDS)
