"""
crowd.py HOST PORT COUNT: so many connections at once, kept open.

Prints {"event": "open", "count"} when all have had an answer to one request, then
{"event": "closed", "count"} whenever some have ended. Ends with its standard input,
or when it is killed.
"""

# ruff: noqa: T201 (what it prints is its answer)

import json
import selectors
import socket
import sys

REQUEST = b"GET / HTTP/1.1\r\nHost: crowd\r\n\r\n"


def tell(event: str, count: int) -> None:
    print(json.dumps({"event": event, "count": count}), flush=True)


host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
selector = selectors.DefaultSelector()
sockets: dict[int, socket.socket] = {}
for _ in range(count):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    sock.connect_ex((host, port))
    selector.register(sock, selectors.EVENT_WRITE)
    sockets[sock.fileno()] = sock
answered: set[int] = set()
closed = 0
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
