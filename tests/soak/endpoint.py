"""
One end of one connection: writes by its plan, checks what it reads, tells what it saw.

Reading and writing are two tasks on one non-blocking socket. The first reset that
either of them meets counts for the connection: the kernel reports it only once, and
whoever reads after that sees an end of file that is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Final

from tests.soak.ends import End, Outcome, Role
from tests.soak.plan import Await, AwaitEnd, Pause, Reset, Send, Side, Step
from tests.soak.sequence import Checker, Sequence, WrongByte

# One write: less than a plan's largest Send, so that memory stays small.
WRITE_BYTES: Final = 128 << 10
# Much more than any plan takes, on a starved machine too.
STUCK_SECONDS: Final = 120.0
# ECONNABORTED is what a socket says that was destroyed under its owner (SOCK_DESTROY),
# as those of revoked direct connections are.
RESETS: Final = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)
_RESET: Final = struct.pack("ii", 1, 0)


class _Reset(Exception):
    """The plan says to throw the connection away now."""


@dataclass(slots=True)
class Endpoint:
    """One end. `incoming` is checked against its own sequence, to `expected` bytes."""

    sock: socket.socket
    side: Side
    outgoing: Sequence
    incoming: Sequence
    client_port: int = 0
    _sent: int = 0
    _shut_down: bool = False
    _saw_end: bool = False
    _reset: str = ""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, role: Role, path: str, number: int, opened: float, first: bytes = b""
    ) -> End:
        """
        Carry the plan out and close the socket; `first` goes before the sequence.
        """
        checker = Checker(self.incoming)
        digest = hashlib.sha256()
        outcome, detail = await self._outcome(checker, digest, first)
        return End(
            role,
            path,
            number,
            outcome,
            detail,
            sent=self._sent,
            sent_hash=digest.hexdigest()[:32],
            shut_down=self._shut_down,
            received=checker.count,
            received_hash=checker.hash,
            saw_end=self._saw_end,
            client_port=self.client_port,
            opened=opened,
            ended=time.monotonic(),
        )

    async def _outcome(
        self, checker: Checker, digest: hashlib._Hash, first: bytes
    ) -> tuple[Outcome, str]:
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await self._both(checker, digest, first)
        except _Reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            return "own reset", ""
        except WrongByte as error:
            return "wrong byte", str(error)
        except RESETS as error:
            return "reset", self._reset or type(error).__name__
        except TimeoutError:
            progress = f"sent {self._sent}, received {checker.count}"
            return "stuck", f"after {STUCK_SECONDS:g} s: {progress}"
        except OSError as error:
            return "failed", f"{type(error).__name__}: {error}"
        finally:
            self.sock.close()
        return "end", ""

    async def _both(
        self, checker: Checker, digest: hashlib._Hash, first: bytes
    ) -> None:
        reader = asyncio.ensure_future(self._read(checker))
        writer = asyncio.ensure_future(self._write(checker, digest, first))
        tasks = {reader, writer}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            # What was wrong counts more than that it was reset afterwards.
            errors = [e for task in done if (e := task.exception())]
            for kind in (WrongByte, _Reset, Exception):
                for error in errors:
                    if isinstance(error, kind):
                        raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, checker: Checker) -> None:
        loop = asyncio.get_running_loop()
        buffer = memoryview(bytearray(self.side.read_bytes))
        stalls = list(self.side.stalls)
        while True:
            try:
                count = await loop.sock_recv_into(self.sock, buffer)
            except OSError as error:
                self._reset = f"on reading: {type(error).__name__}"
                raise
            if count == 0:
                break
            checker.take(buffer[:count])
            self._moved.set()
            due = [each for each in stalls if each.position < checker.count]
            del stalls[: len(due)]
            if due:
                await asyncio.sleep(sum(each.seconds for each in due))
        # A writer who met the reset a moment ago has yet to be told so.
        for _ in range(3):
            await asyncio.sleep(0)
        if not self._reset:
            self._saw_end = True
        self._moved.set()

    async def _write(
        self, checker: Checker, digest: hashlib._Hash, first: bytes
    ) -> None:
        try:
            if first:
                await asyncio.get_running_loop().sock_sendall(self.sock, first)
            for step in self.side.steps:
                await self._step(step, checker, digest)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._reset = self._reset or f"on writing: {type(error).__name__}"
            # ENOTCONN: it was reset before, and the reader knows.
            raise ConnectionResetError(*error.args) from error
        self._shut_down = True

    async def _step(self, step: Step, checker: Checker, digest: hashlib._Hash) -> None:
        match step:
            case Send(count):
                await self._send(count, digest)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Await(count):
                while checker.count < count:
                    await self._progress()
            case AwaitEnd():
                while not self._saw_end:
                    await self._progress()
            case Reset():
                raise _Reset

    async def _send(self, count: int, digest: hashlib._Hash) -> None:
        loop = asyncio.get_running_loop()
        while count:
            part = self.outgoing.part(self._sent, min(count, WRITE_BYTES))
            digest.update(part)
            self._sent += len(part)
            count -= len(part)
            await loop.sock_sendall(self.sock, part)

    async def _progress(self) -> None:
        """
        Wait until something was read.

        After the end nothing more comes: the writer would wait for ever, and what the
        judge needs to know (an end of file before its time) is known.
        """
        if self._saw_end:
            raise ConnectionResetError("the other end ended before its time")
        self._moved.clear()
        await self._moved.wait()


def prepared(sock: socket.socket) -> socket.socket:
    """Non-blocking and without Nagle's delay."""
    sock.setblocking(False)
    with contextlib.suppress(OSError):  # it may be reset already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
