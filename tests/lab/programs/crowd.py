"""
crowd.py HOST PORT COUNT once|turns: so many connections, kept open.

They are all made at once, or each when the one before it has been answered.

Prints {"event": "open", "count", "at"} when all have had an answer to one request, then
{"event": "closed", "count", "at"} whenever some have ended. Ends with the last of them.
`at` is CLOCK_MONOTONIC in seconds, the same for every process.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import resource
import selectors
import socket
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: crowd\r\n\r\n"


def tell(event: str, count: int) -> None:
    at = time.monotonic()
    print(json.dumps({"event": event, "count": count, "at": at}), flush=True)


host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
in_turns = sys.argv[4] == "turns"
family = socket.AF_INET6 if ":" in host else socket.AF_INET
selector = selectors.DefaultSelector()
sockets: dict[int, socket.socket] = {}
answered: set[int] = set()
closed = 0
for _ in range(count):
    sock = socket.socket(family)
    sockets[sock.fileno()] = sock
    if in_turns:
        sock.connect((host, port))
        sock.sendall(REQUEST)
        assert sock.recv(65536)
        answered.add(sock.fileno())
        selector.register(sock, selectors.EVENT_READ)
    else:
        sock.setblocking(False)
        sock.connect_ex((host, port))
        selector.register(sock, selectors.EVENT_WRITE)
if in_turns:
    tell("open", count)
while selector.get_map():
    before = closed
    for key, events in selector.select():
        sock = sockets[key.fd]
        try:
            if events & selectors.EVENT_WRITE:
                sock.sendall(REQUEST)
                selector.modify(sock, selectors.EVENT_READ)
                continue
            alive = bool(sock.recv(65536))
        except OSError:
            alive = False
        if alive and key.fd not in answered:
            answered.add(key.fd)
            if len(answered) == count:
                tell("open", count)
        elif not alive:
            selector.unregister(sock)
            sock.close()
            closed += 1
    if closed > before:
        tell("closed", closed)
