"""An acceptor serves whoever comes, until it is stopped."""

from __future__ import annotations

import socket

import trio
import trio.testing

from agent.addresses import SocketAddress
from agent.proxy.listener import (
    YIELD_SECONDS,
    YIELD_TUNNELS,
    Acceptor,
    Serve,
    beside_bulk,
    yielding,
)
from tests.unit.proxy.joined import data_path


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


async def test_serves_whoever_comes() -> None:
    """Each connection, with its peer's address."""
    listener = listening()
    served: list[str] = []

    async def serve(sock: socket.socket, peer: SocketAddress) -> None:
        served.append(str(peer))
        sock.close()

    with (
        socket.create_connection(listener.getsockname()) as one,
        socket.create_connection(listener.getsockname()) as two,
    ):
        names = [str(SocketAddress.of(sock.getsockname())) for sock in (one, two)]
        async with data_path() as path, trio.open_nursery() as nursery:
            acceptor = Acceptor(listener, serve, path.reactor, nursery)
            await trio.testing.wait_all_tasks_blocked(0.01)
            acceptor.stop()
    listener.close()
    assert sorted(served) == sorted(names)


async def test_stopped() -> None:
    """Who comes after it was stopped is not accepted; to stop twice is no error."""
    listener = listening()

    async def serve(_sock: socket.socket, _peer: SocketAddress) -> None:
        raise AssertionError("nobody is served in this test")

    async with data_path() as path, trio.open_nursery() as nursery:
        acceptor = Acceptor(listener, serve, path.reactor, nursery)
        acceptor.stop()
        acceptor.stop()
        with socket.create_connection(listener.getsockname()):
            await trio.testing.wait_all_tasks_blocked(0.01)
    listener.close()


async def test_no_descriptors_left() -> None:
    """It pauses, and takes the connection when there is one again."""
    listener = listening()
    served = trio.Event()
    failing = Failing(listener)

    async def serve(sock: socket.socket, _peer: SocketAddress) -> None:
        sock.close()
        served.set()

    async with data_path() as path, trio.open_nursery() as nursery:
        acceptor = Acceptor(failing, serve, path.reactor, nursery)  # type: ignore[arg-type]
        with socket.create_connection(listener.getsockname()), trio.fail_after(5):
            await served.wait()
        assert failing.failures == 1
        acceptor.stop()
    listener.close()


async def test_leaves_a_tunnel_to_who_has_fewer() -> None:
    """Both see it come; the one without patience takes it, and the other nothing."""
    listener = listening()
    served: list[str] = []

    def serving(name: str) -> Serve:
        async def serve(sock: socket.socket, _peer: SocketAddress) -> None:
            served.append(name)
            sock.close()

        return serve

    second = listener.dup()
    async with data_path() as path, trio.open_nursery() as nursery:
        busy = Acceptor(
            *(listener, serving("busy"), path.reactor, nursery), lambda: 0.05
        )
        idle = Acceptor(second, serving("idle"), path.reactor, nursery)
        with socket.create_connection(listener.getsockname()):
            await trio.testing.wait_all_tasks_blocked(0.2)
        idle.stop()
        assert served == ["idle"]
        with socket.create_connection(listener.getsockname()), trio.fail_after(5):
            while served != ["idle", "busy"]:  # noqa: ASYNC110
                await trio.sleep(0.01)
        busy.stop()
    second.close()
    listener.close()


def test_patience_has_an_end() -> None:
    """A worker with a thousand tunnels still takes one that nobody else takes."""
    assert yielding(0, busy=False) == 0
    assert yielding(3, busy=False) == 3 * YIELD_SECONDS
    assert yielding(1_000, busy=False) == YIELD_TUNNELS * YIELD_SECONDS
    assert yielding(1, busy=True) == YIELD_SECONDS + beside_bulk(busy=True)
    assert beside_bulk(busy=False) == 0


class Failing:
    """A listener whose first accept fails for want of descriptors."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.failures = 0

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if not self.failures:
            self.failures += 1
            raise OSError(24, "Too many open files")
        return self._listener.accept()
