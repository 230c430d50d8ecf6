"""
collect.py serve PORT FILE | send HOST PORT BYTES: keep what arrives, as it arrives.

The server appends each connection's bytes to FILE and answers with their number; the
client sends a pattern of BYTES and prints {"sent", "answer", "ended"}.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import socket
import sys

PATTERN = b"collect-me-" + bytes(range(256))


def serve(port: int, path: str) -> None:
    with (
        socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
        ) as listener,
        open(path, "ab", buffering=0) as file,
    ):
        while True:
            sock, _ = listener.accept()
            received = 0
            with sock:
                try:
                    while data := sock.recv(65536):
                        file.write(data)
                        received += len(data)
                    sock.sendall(str(received).encode())
                except OSError:
                    continue


def send(host: str, port: int, count: int) -> None:
    data = (PATTERN * (count // len(PATTERN) + 1))[:count]
    answer, ended = "", "end of file"
    try:
        with socket.create_connection((host, port), timeout=10) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = sock.recv(100).decode()
    except OSError as error:
        ended = type(error).__name__
    print(json.dumps({"sent": count, "answer": answer, "ended": ended}))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]), sys.argv[3])
else:
    send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
