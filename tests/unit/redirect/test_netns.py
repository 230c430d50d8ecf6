"""Whoever enters a namespace comes back, or the process does not go on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from agent.errors import KernelError
from agent.redirect import netns

POD = 77


class Kernel:
    """Where the process would be; the real one asks for CAP_SYS_ADMIN."""

    def __init__(self) -> None:
        self.home = netns._home()
        self.place = self.home
        self.visits: list[int] = []
        self.refuses: set[int] = set()

    def enter(self, netns_fd: int) -> None:
        if netns_fd in self.refuses:
            raise KernelError("enter a network namespace: for the test")
        self.visits.append(netns_fd)
        self.place = netns_fd


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(netns, "_enter", kernel.enter)
    return kernel


class Aborted(BaseException):
    """What stands for the end of the process."""


@pytest.fixture
def abort(monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        raise Aborted

    monkeypatch.setattr(os, "abort", end)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> Iterator[list[int]]:
    """The kernel has sockets left: `limit[0]`. All are made in the pod."""
    left = [100]
    made: list[socket.socket] = []
    real = socket.socket

    def make(family: int, kind: int) -> socket.socket:
        assert kernel.place == POD
        if not left[0]:
            raise OSError(24, "Too many open files")
        left[0] -= 1
        made.append(real(family, kind))
        return made[-1]

    monkeypatch.setattr(socket, "socket", make)
    yield left
    for sock in made:
        sock.close()


class TestInside:
    def test_and_back(self, kernel: Kernel) -> None:
        """The block runs in the namespace, what follows does not."""
        with netns.inside(POD):
            assert kernel.place == POD
        assert kernel.place == kernel.home

    def test_a_block_that_fails(self, kernel: Kernel) -> None:
        """The way back is taken in any case, and the error is the block's own."""
        with pytest.raises(ZeroDivisionError), netns.inside(POD):
            raise ZeroDivisionError
        assert kernel.visits == [POD, kernel.home]

    def test_no_way_in(self, kernel: Kernel, abort: None) -> None:
        """A namespace that cannot be entered is an error; the block does not run."""
        kernel.refuses = {POD}
        with pytest.raises(KernelError), netns.inside(POD):
            pytest.fail("the block ran at home")
        assert kernel.visits == []

    def test_no_way_back(self, kernel: Kernel, abort: None) -> None:
        """The process ends rather than go on in a pod's namespace."""
        with pytest.raises(Aborted), netns.inside(POD):
            kernel.refuses = {kernel.home}

    def test_not_a_namespace(self) -> None:
        """The kernel's own answer to a descriptor of something else."""
        with socket.socket() as other, pytest.raises(KernelError, match="namespace"):
            netns._enter(other.fileno())


class TestSocketsIn:
    def test_several_in_one_visit(self, kernel: Kernel, limit: list[int]) -> None:
        """As many as asked for, non-blocking, of that family, for one way in."""
        made = netns.sockets_in(POD, socket.AF_INET6, 4)
        assert len({sock.fileno() for sock in made}) == 4
        assert {sock.family for sock in made} == {socket.AF_INET6}
        assert not any(sock.getblocking() for sock in made)
        assert kernel.visits == [POD, kernel.home]

    def test_fewer_than_asked(self, kernel: Kernel, limit: list[int]) -> None:
        """What could be made is given: a stock ahead may not cost a connection."""
        limit[0] = 2
        assert len(netns.sockets_in(POD, socket.AF_INET, 16)) == 2
        assert kernel.place == kernel.home

    def test_none_at_all(self, kernel: Kernel, limit: list[int]) -> None:
        """With not even one the kernel's reason is told."""
        limit[0] = 0
        with pytest.raises(KernelError, match="Too many open files"):
            netns.sockets_in(POD, socket.AF_INET, 16)
        assert kernel.place == kernel.home


class TestCookies:
    def test_of_sockets(self) -> None:
        """Each has its own, and the same one each time."""
        with socket.socket() as one, socket.socket() as two:
            assert netns.socket_cookie(one) == netns.socket_cookie(one)
            assert netns.socket_cookie(one) != netns.socket_cookie(two)

    def test_of_the_namespace(self) -> None:
        """All sockets of a namespace tell the same one."""
        with socket.socket() as one, socket.socket(socket.AF_INET6) as two:
            assert netns.netns_cookie(one) == netns.netns_cookie(two)
            assert netns.netns_cookie(one) == netns.own_netns_cookie() != 0

    def test_of_something_else(self) -> None:
        """A closed socket has none."""
        sock = socket.socket()
        sock.close()
        with pytest.raises(KernelError, match="cookie"):
            netns.socket_cookie(sock)
