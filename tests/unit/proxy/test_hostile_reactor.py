"""One connection's fault stays its own, also after the batch."""

from __future__ import annotations

import socket

import trio

from agent.proxy.buffers import BUFFER_BYTES, BufferPool
from agent.proxy.outbox import Outbox
from agent.proxy.reactor import READABLE, Reactor


async def test_a_flush_that_fails_ends_nobody_else() -> None:
    """A bug in what was put off to the end of the batch does not end the reactor."""
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    heard: list[bytes] = []
    flushed = trio.Event()

    def fail() -> None:
        raise AssertionError("a bug")

    def ready(_mask: int) -> None:
        heard.append(ours.recv(1))
        reactor.later(fail)
        reactor.later(flushed.set)

    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            reactor.watch(ours.fileno(), READABLE, ready)
            for each in (b"a", b"b"):
                flushed = trio.Event()
                theirs.send(each)
                with trio.fail_after(2):
                    await flushed.wait()
            reactor.forget(ours.fileno())
            nursery.cancel_scope.cancel()
    reactor.close()
    assert heard == [b"a", b"b"]


def test_more_control_frames_than_a_buffer_holds() -> None:
    """What a peer's one read made us answer may exceed the buffer; all of it goes."""
    frames = bytes(range(256)) * (BUFFER_BYTES // 256) + b"and more"
    outbox = Outbox(BufferPool())
    outbox.append(frames)
    outbox.append(b"behind")
    sent = b""
    while outbox:
        piece = bytes(outbox.pending[:100_000])
        sent += piece
        outbox.sent(len(piece))
    assert sent == frames + b"behind"


async def test_busy_tasks_do_not_starve_the_sockets() -> None:
    """A task that can always run, and a socket that is ready: both have their turn."""
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    served = trio.Event()
    turns = 0

    def ready(_mask: int) -> None:
        ours.recv(1)
        served.set()

    async def never_rests() -> None:
        nonlocal turns
        while not served.is_set() and turns < 10_000:
            turns += 1
            await trio.lowlevel.checkpoint()

    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reactor.run)
            reactor.watch(ours.fileno(), READABLE, ready)
            theirs.send(b"a")
            for _ in range(3):
                nursery.start_soon(never_rests)
            with trio.move_on_after(5):
                await served.wait()
            reactor.forget(ours.fileno())
            nursery.cancel_scope.cancel()
    reactor.close()
    assert served.is_set()
    assert turns < 100
