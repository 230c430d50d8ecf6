"""
peername.py HOST PORT [mapped]: ask for a page, tell which addresses the socket shows.

With `mapped`, HOST is an IPv4 address that is reached through an IPv6 socket as
::ffff:HOST, as Java and Go do. Prints {"peer", "local", "status", "body"}.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import socket
import sys

host, port, *how = sys.argv[1:]
if how == ["mapped"]:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    host = f"::ffff:{host}"
else:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
sock.settimeout(10)
with sock:
    sock.connect((host, int(port)))
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while data := sock.recv(65536):
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    report = {
        "asked": [host, int(port)],
        "peer": sock.getpeername()[:2],
        "local": sock.getsockname()[:2],
        "status": head.split(b" ")[1].decode() if b" " in head else "",
        "body": body.decode(),
    }
print(json.dumps(report))
