"""
server.py SEED PORT MOST_BYTES LONGEST_PAUSE PATH...: the other end of every client.

A connection introduces itself by its number and key; of which of the paths it is, the
key tells. Prints one `End` a line, also for who ends before saying which it is.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from tests.soak.endpoint import RESETS, STUCK_SECONDS, Endpoint, prepared
from tests.soak.ends import INTRODUCTION_BYTES, End, Outcome, introduced
from tests.soak.plan import Limits, connection_key, planned
from tests.soak.sequence import Sequence

BACKLOG: Final = 1024


@dataclass(slots=True)
class Server:
    """All connections of one port."""

    seed: int
    limits: Limits
    paths: list[str]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, port: int) -> None:
        """Accept until killed."""
        listener = socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
        )
        listener.setblocking(False)
        while True:
            sock, peer = await asyncio.get_running_loop().sock_accept(listener)
            task = asyncio.create_task(self._attend(prepared(sock), peer[1]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attend(self, sock: socket.socket, port: int) -> None:
        end = await self._one(sock, port)
        print(end.line(), flush=True)  # noqa: T201 (its answer)

    async def _one(self, sock: socket.socket, port: int) -> End:
        opened = time.monotonic()

        def nobody(outcome: Outcome, why: str) -> End:
            sock.close()
            every = " ".join(self.paths)
            now = time.monotonic()
            return End(
                "server",
                every,
                None,
                outcome,
                why,
                client_port=port,
                opened=opened,
                ended=now,
            )

        try:
            async with asyncio.timeout(STUCK_SECONDS):
                hello = await self._hello(sock)
        except TimeoutError:
            return nobody("stuck", "no introduction")
        except RESETS as error:
            return nobody("reset", type(error).__name__)
        except OSError as error:
            return nobody("failed", f"{type(error).__name__}: {error}")
        if len(hello) < INTRODUCTION_BYTES:
            return nobody("end", f"{len(hello)} bytes of an introduction")
        number, key = introduced(hello)
        for path in self.paths:
            if connection_key(self.seed, path, number) == key:
                side = planned(key, self.limits).server
                end = Endpoint(sock, side, Sequence(key ^ 1), Sequence(key), port)
                return await end.run("server", path, number, opened)
        return nobody("wrong byte", f"no such introduction: {hello.hex()}")

    @staticmethod
    async def _hello(sock: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        hello = b""
        while len(hello) < INTRODUCTION_BYTES:
            data = await loop.sock_recv(sock, INTRODUCTION_BYTES - len(hello))
            if not data:
                break
            hello += data
        return hello


def main(argv: list[str]) -> None:
    """Serve by the arguments."""
    seed, port, most, pause, *paths = argv
    server = Server(int(seed), Limits(int(most), float(pause)), paths)
    asyncio.run(server.serve(int(port)))


if __name__ == "__main__":
    main(sys.argv[1:])
