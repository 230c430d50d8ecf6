"""
halfclose.py serve PORT | ask HOST PORT BYTES: an answer after the end of the question.

The client sends BYTES, shuts its writing side down and only then reads; the server
answers when it has seen the end. Both print or send {"bytes", "sha256"}.
"""

# ruff: noqa: T201 (what it prints is its answer)

import hashlib
import json
import socket
import sys


def read_all(sock: socket.socket) -> bytes:
    received = b""
    while data := sock.recv(65536):
        received += data
    return received


def digest(data: bytes) -> dict[str, object]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def serve(port: int) -> None:
    with socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listener:
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(10)
                sock.sendall(json.dumps(digest(read_all(sock))).encode())


def ask(host: str, port: int, count: int) -> None:
    question = bytes(range(256)) * (count // 256)
    with socket.create_connection((host, port), timeout=10) as sock:
        sock.sendall(question)
        sock.shutdown(socket.SHUT_WR)
        answer = json.loads(read_all(sock))
    print(json.dumps({"sent": digest(question), "answer": answer}))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
