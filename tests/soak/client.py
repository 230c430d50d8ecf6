"""
client.py SEED PATH PORT SECONDS LANES FIRST MOST_BYTES LONGEST_PAUSE ADDRESS...

Opens connection after connection in each of LANES lanes for SECONDS, from number FIRST
on, to one of the addresses, and prints one `End` a line. Then ends.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.soak.endpoint import Endpoint, prepared
from tests.soak.ends import End, introduction
from tests.soak.plan import Limits, connection_key, planned
from tests.soak.sequence import Sequence

CONNECT_SECONDS: Final = 20.0
REFUSED_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What the arguments say."""

    seed: int
    path: str
    port: int
    until: float
    numbers: Iterator[int]
    limits: Limits
    addresses: list[str]

    async def lane(self) -> None:
        """One connection after the other."""
        while time.monotonic() < self.until:
            end = await self.one(next(self.numbers))
            print(end.line(), flush=True)  # noqa: T201 (its answer)
            # Who is not let in tries again, but not as fast as it can.
            if end.outcome in ("refused", "reset"):
                await asyncio.sleep(REFUSED_SECONDS)

    async def one(self, number: int) -> End:
        """One connection, from connecting to its end."""
        key = connection_key(self.seed, self.path, number)
        chance = random.Random(key + 1)
        host = chance.choice(self.addresses)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = prepared(socket.socket(family, socket.SOCK_STREAM))
        opened = time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, (host, self.port))
        except OSError as error:  # TimeoutError is one
            sock.close()
            now, why = time.monotonic(), f"{type(error).__name__} {host}"
            return End(
                "client", self.path, number, "refused", why, opened=opened, ended=now
            )
        side = planned(key, self.limits).client
        port = sock.getsockname()[1]
        end = Endpoint(sock, side, Sequence(key), Sequence(key ^ 1), port)
        hello = introduction(number, key)
        return await end.run("client", self.path, number, opened, hello)


async def main(argv: list[str]) -> None:
    """Run all lanes to their end."""
    seed, path, port, seconds, lanes, first, most, pause, *addresses = argv
    load = Load(
        int(seed),
        path,
        int(port),
        time.monotonic() + float(seconds),
        itertools.count(int(first)),
        Limits(int(most), float(pause)),
        addresses,
    )
    await asyncio.gather(*(load.lane() for _ in range(int(lanes))))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
