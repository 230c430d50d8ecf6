"""
reset.py serve PORT | ask HOST PORT: a server that answers a line and then resets.

The client prints {"answer", "then"}: what it read first, and how the connection
ended: "ConnectionResetError", or "end of file" for an orderly close.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import socket
import struct
import sys


def serve(port: int) -> None:
    with socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
    ) as listener:
        while True:
            sock, _ = listener.accept()
            sock.settimeout(10)
            sock.recv(100)
            sock.sendall(b"before the reset")
            sock.recv(100)
            # Lingering for zero seconds makes close() send a reset.
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()


def ask(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=10) as sock:
        sock.sendall(b"hello")
        answer = sock.recv(100).decode()
        sock.sendall(b"go on")
        try:
            then = "end of file" if not sock.recv(100) else "more data"
        except OSError as error:
            then = type(error).__name__
    print(json.dumps({"answer": answer, "then": then}))


if sys.argv[1] == "serve":
    serve(int(sys.argv[2]))
else:
    ask(sys.argv[2], int(sys.argv[3]))
