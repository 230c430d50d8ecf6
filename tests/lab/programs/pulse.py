"""
Traffic that notices everything: requests on new connections, and streams that stay.

    pulse.py SLOWNESS serve PORT
    pulse.py SLOWNESS ask RATE HOST PORT       RATE new connections a second
    pulse.py SLOWNESS stream COUNT HOST PORT   COUNT connections, both ways, each byte
                                               known

SLOWNESS, 1 for a usual machine, is a factor of every time below, RATE left out.
Prints one JSON object a line; `at` is CLOCK_MONOTONIC in seconds, the same for every
process. SIGTERM ends it in order: what is under way finishes and is told.
"""

# ruff: noqa: T201 (what it prints is its answer)

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator

SLOWNESS = float(sys.argv[1])
# An answer that takes longer failed; the agents themselves give up after 20 s.
ANSWER_SECONDS = 25.0 * SLOWNESS
BLOCK_BYTES = 512
BLOCK_SECONDS = 0.05 * SLOWNESS


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **facts}), flush=True)


def block(key: int, number: int) -> bytes:
    """The bytes of one block of one direction of one stream."""
    return random.Random(key << 32 | number).randbytes(BLOCK_BYTES)


class Wrong(Exception):
    """What arrived is not what was sent."""


async def checked(reader: asyncio.StreamReader, key: int) -> AsyncIterator[int]:
    """Count blocks until the end of the stream. Raises: Wrong."""
    number = 0
    while True:
        try:
            data = await reader.readexactly(BLOCK_BYTES)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise Wrong(f"block {number} was cut") from error
            return
        if data != block(key, number):
            raise Wrong(f"block {number} differs")
        number += 1
        yield number


async def send(writer: asyncio.StreamWriter, key: int, ended: asyncio.Event) -> None:
    """A block every so often, until `ended`; then the end of the stream."""
    number = 0
    while not ended.is_set():
        writer.write(block(key, number))
        await writer.drain()
        number += 1
        await asyncio.sleep(BLOCK_SECONDS)
    writer.write_eof()


# The server.


async def serve(port: int) -> None:
    server = await asyncio.start_server(answer, None, port)
    async with server:
        await server.serve_forever()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        kind, number = (await reader.readuntil()).split()
        if kind == b"ask":
            writer.write(b"answer %d\n" % int(number))
            await writer.drain()
        else:
            await carry(reader, writer, int(number))
    except (OSError, EOFError, Wrong) as error:
        tell("server", why=f"{type(error).__name__}: {error}")
    finally:
        writer.close()


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: int
) -> None:
    ended = asyncio.Event()
    sending = asyncio.create_task(send(writer, key + 1, ended))
    try:
        async for _ in checked(reader, key):
            pass
        ended.set()
        await sending
    finally:
        sending.cancel()


# Requests.


class Asking:
    """Asks so many times a second, and tells what became of it once a second."""

    def __init__(self, rate: float, host: str, ports: list[int]) -> None:
        self._rate = rate
        self._host, self._ports = host, ports
        self._answered = self._failed = 0
        self._slowest = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        began, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            ticker = asyncio.create_task(self._tick())
            while not stop.is_set():
                tasks.create_task(self._ask(number))
                number += 1
                due = began + number / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        ticker.cancel()
        tell("done", asked=number, answered=self._answered, failed=self._failed)

    async def _ask(self, number: int) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._once(number)
        except (OSError, EOFError, Wrong) as error:  # TimeoutError is an OSError
            self._failed += 1
            why = f"{type(error).__name__}: {error}"
            tell("failed", why=why, after=round(time.monotonic() - began, 3))
        else:
            self._answered += 1
            self._slowest = max(self._slowest, time.monotonic() - began)

    async def _once(self, number: int) -> None:
        port = self._ports[number % len(self._ports)]
        reader, writer = await asyncio.open_connection(self._host, port)
        try:
            writer.write(b"ask %d\n" % number)
            said = await reader.read()
            if said != b"answer %d\n" % number:
                raise Wrong(f"answered {said!r}")
        finally:
            writer.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            slowest, self._slowest = self._slowest, 0.0
            tell(
                "second",
                answered=self._answered,
                failed=self._failed,
                slowest_ms=round(slowest * 1000, 1),
            )


# Streams.


async def stream(stop: asyncio.Event, name: int, host: str, port: int) -> None:
    """One stream from its start to its end, which is told."""
    key, blocks = name << 1, 0
    why = "the other end ended"
    try:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"stream %d\n" % key)
            sending = asyncio.create_task(send(writer, key, stop))
            try:
                async for count in checked(reader, key + 1):
                    if not blocks:
                        tell("flows", stream=name)
                    blocks = count
            finally:
                sending.cancel()
        finally:
            writer.close()
    except Wrong as error:
        tell("wrong", stream=name, why=str(error))
        return
    except OSError as error:
        why = f"{type(error).__name__}: {error}"
    tell("ended" if stop.is_set() else "broken", stream=name, blocks=blocks, why=why)


async def main() -> None:
    mode, *rest = sys.argv[2:]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if mode == "serve":
        await serve(int(rest[0]))
    elif mode == "ask":
        await Asking(float(rest[0]), rest[1], [int(rest[2])]).run(stop)
    else:
        names = (random.getrandbits(24) for _ in range(int(rest[0])))
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(stream(stop, name, rest[1], int(rest[2])))


asyncio.run(main())
