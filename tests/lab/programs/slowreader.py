"""
slowreader.py serve PORT GATE | push HOST PORT BYTES GATE: a reader in no hurry.

The server accepts, and reads nothing before the file GATE exists. The client prints
{"event": "stuck", "pushed"} when no more was taken for one second, or as soon as
BYTES were; it too waits for GATE, pushes the rest and prints {"event": "done",
"pushed", "received"}: what the server says that it read.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import os
import select
import socket
import sys
import time

STUCK_SECONDS = 1.0
CHUNK = bytes(1 << 16)


def wait_for(gate: str) -> None:
    while not os.path.exists(gate):
        time.sleep(0.02)


def serve(port: int, gate: str) -> None:
    with socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listener:
        while True:
            sock, _ = listener.accept()
            wait_for(gate)
            received = 0
            with sock:
                while data := sock.recv(1 << 18):
                    received += len(data)
                sock.sendall(str(received).encode())


def push_until_stuck(sock: socket.socket, total: int) -> int:
    """Push with all might; how many bytes were taken before nothing moved."""
    sock.setblocking(False)
    pushed = 0
    while pushed < total:
        _, writable, _ = select.select([], [sock], [], STUCK_SECONDS)
        if not writable:
            break
        pushed += sock.send(CHUNK[: total - pushed])
    sock.setblocking(True)
    return pushed


def push(host: str, port: int, total: int, gate: str) -> None:
    with socket.create_connection((host, port), timeout=10) as sock:
        pushed = push_until_stuck(sock, total)
        print(json.dumps({"event": "stuck", "pushed": pushed}), flush=True)
        wait_for(gate)
        sock.settimeout(30)
        while pushed < total:
            part = CHUNK[: total - pushed]
            sock.sendall(part)
            pushed += len(part)
        sock.shutdown(socket.SHUT_WR)
        received = int(sock.recv(100))
    print(json.dumps({"event": "done", "pushed": pushed, "received": received}))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), sys.argv[3])
else:
    push(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
