"""
bulk.py serve PORT | put HOST PORT BYTES | get HOST PORT BYTES: a large transfer.

The bytes are a random block over and over, each time begun with a counter, so that a
block lost, doubled or out of place changes the hash. `put` sends and compares with
the hash that the server answers; `get` receives and compares with the hash that the
server names first. Prints {"bytes", "sent", "received", "seconds"}.
"""

# ruff: noqa: T201 (what it prints is its answer)

import hashlib
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator

BLOCK_BYTES = 1 << 20


def blocks(count: int) -> Iterator[memoryview]:
    """`count` bytes, the same on each machine."""
    block = bytearray(random.Random(count).randbytes(BLOCK_BYTES))
    for number, start in enumerate(range(0, count, BLOCK_BYTES)):
        block[:8] = number.to_bytes(8)
        yield memoryview(block)[: min(BLOCK_BYTES, count - start)]


def send(sock: socket.socket, count: int) -> str:
    digest = hashlib.sha256()
    for block in blocks(count):
        digest.update(block)
        sock.sendall(block)
    return digest.hexdigest()


def receive(sock: socket.socket, count: int) -> str:
    """Read `count` bytes (fewer at an early end) and hash them."""
    digest, buffer, left = hashlib.sha256(), bytearray(BLOCK_BYTES), count
    view = memoryview(buffer)
    while left and (got := sock.recv_into(view, min(left, BLOCK_BYTES))):
        digest.update(view[:got])
        left -= got
    return digest.hexdigest() if not left else f"{left} bytes missing"


def handle(sock: socket.socket) -> None:
    with sock, sock.makefile("rb", buffering=0) as lines:
        verb, count = lines.readline().split()
        if verb == b"put":
            sock.sendall(receive(sock, int(count)).encode())
        else:
            send(sock, int(count))


def serve(port: int) -> None:
    with socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=handle, args=(sock,), daemon=True).start()


def ask(verb: str, host: str, port: int, count: int) -> None:
    began = time.monotonic()
    with socket.create_connection((host, port), timeout=60) as sock:
        sock.sendall(f"{verb} {count}\n".encode())
        if verb == "put":
            sent, received = send(sock, count), sock.recv(100).decode()
            took = time.monotonic() - began
        else:
            received = receive(sock, count)
            took = time.monotonic() - began
            digest = hashlib.sha256()
            for block in blocks(count):
                digest.update(block)
            sent = digest.hexdigest()
    print(
        json.dumps(
            {"bytes": count, "sent": sent, "received": received, "seconds": took}
        )
    )


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    ask(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
