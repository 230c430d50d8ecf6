"""Handlers are told what they watch for and no more, and tasks get their turn."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from agent.proxy.reactor import NOTHING, READABLE, WRITABLE, Reactor
from agent.proxy.share import Account
from agent.proxy.spin import Spin
from agent.tcp import LINGER_RESET
from tests.unit.proxy.joined import data_path, tcp_pair


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A watched socket and its peer."""
    ours, peer = tcp_pair()
    yield ours, peer
    ours.close()
    peer.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


async def rounds() -> None:
    """Many turns of a loop that has something to do; over at once if it has not."""
    with trio.fail_after(5):  # a loop that never rests would not end by itself
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()


Ends = tuple[socket.socket, socket.socket]


class TestWatching:
    async def test_level_triggered(self, ends: Ends) -> None:
        """What a handler leaves unread is told again, until it is read."""
        ours, peer = ends
        got: list[bytes] = []
        done = trio.Event()

        def ready(mask: int) -> None:
            assert mask & READABLE
            got.append(ours.recv(1))
            if len(got) == 3:
                done.set()

        async with data_path() as path:
            path.reactor.watch(ours.fileno(), READABLE, ready)
            peer.send(b"abc")
            with trio.fail_after(5):
                await done.wait()
            await rounds()
            path.reactor.forget(ours.fileno())
        assert got == [b"a", b"b", b"c"]

    async def test_something_else(self, ends: Ends) -> None:
        """After `change` only the new events are told."""
        ours, peer = ends
        masks: list[int] = []

        def ready(mask: int) -> None:
            masks.append(mask)
            path.reactor.change(ours.fileno(), NOTHING)

        async with data_path() as path:
            path.reactor.watch(ours.fileno(), NOTHING, ready)
            peer.send(b"x")
            await rounds()
            assert masks == []
            path.reactor.change(ours.fileno(), WRITABLE)
            await rounds()
            path.reactor.forget(ours.fileno())
        assert masks == [WRITABLE]

    async def test_a_reset_while_nothing_is_watched(self, ends: Ends) -> None:
        """It is told once: neither lost, nor told for ever."""
        ours, peer = ends
        masks: list[int] = []
        async with data_path() as path:
            path.reactor.watch(ours.fileno(), READABLE, masks.append)
            path.reactor.change(ours.fileno(), NOTHING)
            peer.send(b"x")
            await rounds()
            assert masks == []
            reset(peer)
            await rounds()
            assert len(masks) == 1
            assert masks[0] & select.EPOLLERR
            path.reactor.change(ours.fileno(), NOTHING)  # who asks again is told again
            await rounds()
            assert len(masks) == 2
            path.reactor.forget(ours.fileno())

    async def test_forgotten_by_an_earlier_handler(self, ends: Ends) -> None:
        """Of one batch, a descriptor that is forgotten meanwhile is not served."""
        ours, peer = ends
        served: list[str] = []
        async with data_path() as path:

            def first(_mask: int) -> None:
                served.append("first")
                path.reactor.forget(ours.fileno())
                path.reactor.forget(peer.fileno())

            def second(_mask: int) -> None:
                served.append("second")
                path.reactor.forget(ours.fileno())
                path.reactor.forget(peer.fileno())

            path.reactor.watch(ours.fileno(), WRITABLE, first)
            path.reactor.watch(peer.fileno(), WRITABLE, second)
            await rounds()
        assert len(served) == 1

    async def test_to_forget_twice_is_nothing(self, ends: Ends) -> None:
        """Also what was never watched; and it can be watched anew."""
        ours, _ = ends
        async with data_path() as path:
            path.reactor.forget(ours.fileno())
            path.reactor.watch(ours.fileno(), READABLE, lambda _: None)
            path.reactor.forget(ours.fileno())
            path.reactor.forget(ours.fileno())
            path.reactor.watch(ours.fileno(), READABLE, lambda _: None)
            path.reactor.forget(ours.fileno())

    async def test_a_bug_in_a_handler(self, ends: Ends) -> None:
        """It is told once, and its neighbours go on."""
        ours, peer = ends
        calls: list[str] = []

        def faulty(_mask: int) -> None:
            calls.append("faulty")
            raise RuntimeError("for the test")

        def sound(_mask: int) -> None:
            calls.append("sound")
            peer.recv(100)

        async with data_path() as path:
            path.reactor.watch(ours.fileno(), READABLE, faulty)
            path.reactor.watch(peer.fileno(), READABLE, sound)
            peer.send(b"x")
            await rounds()
            for count in (1, 2):
                ours.send(b"y")
                await rounds()
                assert calls.count("sound") == count
            path.reactor.forget(peer.fileno())
        assert calls.count("faulty") == 1


class TestLater:
    async def test_in_a_batch(self, ends: Ends) -> None:
        """After the whole batch, and once, however many handlers asked."""
        ours, peer = ends
        told: list[str] = []

        def flush() -> None:
            told.append("flush")

        async with data_path() as path:

            def ready(_mask: int) -> None:
                told.append("handled")
                path.reactor.later(flush)
                path.reactor.later(flush)

            for sock in ends:
                path.reactor.watch(sock.fileno(), WRITABLE | select.EPOLLET, ready)
            await rounds()
            for sock in (ours, peer):
                path.reactor.forget(sock.fileno())
        assert told == ["handled", "handled", "flush"]

    async def test_what_a_flush_asks_for(self, ends: Ends) -> None:
        """A flush may ask for another one, of the same batch."""
        ours, _ = ends
        told: list[str] = []
        async with data_path() as path:

            def first() -> None:
                told.append("first")
                path.reactor.later(lambda: told.append("second"))

            def ready(_mask: int) -> None:
                path.reactor.forget(ours.fileno())
                path.reactor.later(first)

            path.reactor.watch(ours.fileno(), WRITABLE, ready)
            await rounds()
        assert told == ["first", "second"]

    async def test_outside_of_a_batch(self) -> None:
        """A task's bytes do not wait for a batch that may never come."""
        told: list[str] = []
        async with data_path() as path:
            await trio.testing.wait_all_tasks_blocked()
            path.reactor.later(lambda: told.append("flush"))
            assert told == ["flush"]


class TestWait:
    async def test_until_ready(self, ends: Ends) -> None:
        """The task goes on when the socket is ready, and nothing stays watched."""
        ours, peer = ends
        async with data_path() as path, trio.open_nursery() as nursery:
            nursery.start_soon(path.reactor.wait, ours, READABLE)
            await rounds()
            assert nursery.child_tasks
            peer.send(b"x")
            with trio.fail_after(5):
                await path.reactor.wait(peer, WRITABLE)
                while nursery.child_tasks:
                    await trio.lowlevel.checkpoint()
            path.reactor.watch(ours.fileno(), NOTHING, lambda _: None)
            path.reactor.forget(ours.fileno())

    async def test_a_refusal_is_ready_too(self) -> None:
        """A connect that fails wakes who waits for it; the error is left to be read."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            nobody = server.getsockname()
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.connect_ex(nobody)
            async with data_path() as path:
                with trio.fail_after(5):
                    await path.reactor.wait(sock, WRITABLE)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    async def test_given_up(self, ends: Ends) -> None:
        """A deadline leaves nothing watched behind."""
        ours, _ = ends
        async with data_path() as path:
            with trio.CancelScope() as scope:
                scope.cancel()
                await path.reactor.wait(ours, READABLE)
            path.reactor.watch(ours.fileno(), READABLE, lambda _: None)
            path.reactor.forget(ours.fileno())


class TestTheThread:
    async def test_is_shared(self, ends: Ends) -> None:
        """
        With a socket that is always ready and a task that can always run, each of them
        gets its turn: one batch, then the task.
        """
        ours, _ = ends
        calls = 0

        def ready(_mask: int) -> None:
            nonlocal calls
            calls += 1

        async with data_path() as path:
            path.reactor.watch(ours.fileno(), WRITABLE, ready)
            with trio.fail_after(5):
                while not calls:
                    await trio.lowlevel.checkpoint()
            before = calls
            for _ in range(100):
                await trio.lowlevel.checkpoint()
            path.reactor.forget(ours.fileno())
        assert 50 <= calls - before <= 150

    async def test_deadlines_are_kept(self, ends: Ends) -> None:
        """Nor from waking when time has come, though no other task can run."""
        ours, _ = ends
        async with data_path() as path:
            path.reactor.watch(ours.fileno(), WRITABLE, lambda _: None)
            with trio.fail_after(5), trio.move_on_after(0.01) as scope:
                await trio.sleep_forever()
            path.reactor.forget(ours.fileno())
        assert scope.cancelled_caught

    async def test_looks_on_before_it_sleeps(
        self, ends: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An answer that comes just after the last batch is found by looking on."""
        ours, peer = ends
        looked: list[bool] = []
        got: list[bytes] = []

        def allowed(_spin: Spin, descriptor: int, _seconds: float) -> bool:
            assert descriptor == ours.fileno()
            peer.send(b"answer")
            return not looked

        def ended(_spin: Spin, *, found: bool) -> None:
            looked.append(found)

        monkeypatch.setattr(Spin, "allowed", allowed)
        monkeypatch.setattr(Spin, "ended", ended)

        def ready(_mask: int) -> None:
            got.append(ours.recv(100))
            if looked:
                path.reactor.forget(ours.fileno())

        async with data_path() as path:
            await trio.testing.wait_all_tasks_blocked()
            path.reactor.watch(ours.fileno(), READABLE, ready)
            peer.send(b"first")
            await rounds()
        assert got[:2] == [b"first", b"answer"]
        assert looked == [True]


async def test_ends_in_order() -> None:
    """A reactor that was cancelled leaves the loop's instruments as they were."""
    reactor = Reactor()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(reactor._tasks)
    reactor.close()


class TestAnotherTurn:
    async def test_comes_without_the_socket(self, ends: Ends) -> None:
        ours, _peer = ends
        calls: list[int] = []
        done = trio.Event()

        def ready(mask: int) -> None:
            calls.append(mask)
            if len(calls) < 3:
                path.reactor.again(ours.fileno())
            else:
                done.set()

        async with data_path() as path:
            path.reactor.watch(ours.fileno(), READABLE, ready)
            await trio.testing.wait_all_tasks_blocked()
            path.reactor.again(ours.fileno())  # while the loop sleeps
            with trio.fail_after(5):
                await done.wait()
            await rounds()
            path.reactor.forget(ours.fileno())
        assert calls == [READABLE] * 3

    async def test_not_after_it_was_forgotten(self, ends: Ends) -> None:
        ours, peer = ends
        calls: list[int] = []

        def ready(mask: int) -> None:
            calls.append(mask)
            ours.recv(10)
            path.reactor.again(ours.fileno())
            path.reactor.forget(ours.fileno())

        async with data_path() as path:
            path.reactor.watch(ours.fileno(), READABLE, ready)
            peer.send(b"a")
            await rounds()
        assert len(calls) == 1


class TestShares:
    async def test_the_greedy_come_last(self) -> None:
        """Sockets that are always ready, and use much, and one that is ready seldom."""
        greedy = Account()
        pairs = [tcp_pair() for _ in range(40)]
        quiet, tell = tcp_pair()
        worked = 0
        waits: list[int] = []
        asked = 0

        def work(_mask: int) -> None:
            nonlocal worked
            worked += 1
            until = time.monotonic() + 0.002
            while time.monotonic() < until:
                pass

        def answer(_mask: int) -> None:
            quiet.recv(10)
            waits.append(worked - asked)

        async with data_path() as path:
            greedy.charge(10.0, time.monotonic())
            for ours, peer in pairs:
                path.reactor.watch(ours.fileno(), READABLE, work, greedy)
                peer.send(b"x")  # never read: ready for ever
            path.reactor.watch(quiet.fileno(), READABLE, answer, Account())
            with trio.fail_after(30):
                for number in range(5):
                    asked = worked
                    tell.send(b"q")
                    while len(waits) <= number:
                        await trio.lowlevel.checkpoint()
            for ours, _ in pairs:
                path.reactor.forget(ours.fileno())
            path.reactor.forget(quiet.fileno())
        assert worked > 0  # nor do they starve
        assert max(waits) <= 3
        for ours, peer in [*pairs, (quiet, tell)]:
            ours.close()
            peer.close()

    async def test_alone_the_greedy_have_it_all(self, ends: Ends) -> None:
        ours, peer = ends
        greedy = Account()
        done = trio.Event()

        def ready(_mask: int) -> None:
            if ours.recv(1) == b"z":
                done.set()

        async with data_path() as path:
            greedy.charge(10.0, time.monotonic())
            path.reactor.watch(ours.fileno(), READABLE, ready, greedy)
            peer.send(b"abcz")
            with trio.fail_after(5):
                await done.wait()
            path.reactor.forget(ours.fileno())
