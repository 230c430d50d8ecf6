"""Sockets are made ahead only for pods that use them up."""

from __future__ import annotations

import socket

import pytest

from agent.errors import KernelError
from agent.proxy.stock import MOST_AHEAD, OFTEN_SECONDS, SocketStock

POD, OTHER = 7, 8


class Pods:
    """Namespaces that are none; notes what was asked for, and the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[tuple[int, int, int]] = []
        self.made: list[socket.socket] = []
        self.refuses = False
        self.at_most = MOST_AHEAD

    def open(self, netns_fd: int, family: int, count: int) -> list[socket.socket]:
        self.asked.append((netns_fd, family, count))
        if self.refuses:
            raise KernelError("for the test")
        new = [socket.socket(family) for _ in range(min(count, self.at_most))]
        self.made += new
        return new

    def cookie(self, sock: socket.socket) -> int:
        return sock.fileno()

    @property
    def counts(self) -> list[int]:
        return [count for _, _, count in self.asked]


@pytest.fixture
def pods() -> object:
    pods = Pods()
    yield pods
    for sock in pods.made:
        sock.close()


def make_stock(pods: Pods) -> SocketStock:
    return SocketStock(pods, lambda: pods.now)


def take(stock: SocketStock, times: int, netns_fd: int = POD) -> list[socket.socket]:
    return [stock.take(netns_fd, socket.AF_INET) for _ in range(times)]


def test_now_and_then(pods: Pods) -> None:
    """A pod that gets one connection now and then gets one socket for it."""
    stock = make_stock(pods)
    for _ in range(5):
        take(stock, 1)
        pods.now += OFTEN_SECONDS
    assert pods.counts == [1] * 5


def test_often(pods: Pods) -> None:
    """Each visit within a second makes twice as many, up to a bound."""
    stock = make_stock(pods)
    taken = take(stock, 63)
    assert pods.counts == [1, 2, 4, 8, MOST_AHEAD, MOST_AHEAD, MOST_AHEAD]
    assert len({sock.fileno() for sock in taken}) == 63


def test_no_longer_often(pods: Pods) -> None:
    """After a pause it starts with one again."""
    stock = make_stock(pods)
    take(stock, 7)
    pods.now += OFTEN_SECONDS
    take(stock, 2)
    assert pods.counts == [1, 2, 4, 1, 2]


def test_of_one_namespace_and_family(pods: Pods) -> None:
    """Nobody gets a socket of another pod, or of another family."""
    stock = make_stock(pods)
    take(stock, 2)
    take(stock, 1, OTHER)
    assert stock.take(POD, socket.AF_INET6).family == socket.AF_INET6
    assert pods.asked == [
        (POD, socket.AF_INET, 1),
        (POD, socket.AF_INET, 2),
        (OTHER, socket.AF_INET, 1),
        (POD, socket.AF_INET6, 1),
    ]


def test_a_pod_that_goes(pods: Pods) -> None:
    """Its stock is closed; what was taken, and other pods' stock, is left alone."""
    stock = make_stock(pods)
    taken = take(stock, 2) + take(stock, 2, OTHER)
    stock.drop(POD)
    assert [sock.fileno() < 0 for sock in pods.made] == [
        sock not in taken and index < 3 for index, sock in enumerate(pods.made)
    ]
    assert sum(sock.fileno() < 0 for sock in pods.made) == 1
    take(stock, 1)  # a new namespace under the same number starts anew
    assert pods.asked[-1] == (POD, socket.AF_INET, 1)


def test_a_kernel_that_refuses(pods: Pods) -> None:
    """The error reaches who asked; the next one tries again."""
    stock = make_stock(pods)
    pods.refuses = True
    with pytest.raises(KernelError):
        take(stock, 1)
    pods.refuses = False
    assert take(stock, 1)


def test_fewer_than_asked(pods: Pods) -> None:
    """A kernel near its limits gives fewer: they are used, then more are asked for."""
    pods.at_most = 1
    stock = make_stock(pods)
    assert len({sock.fileno() for sock in take(stock, 4)}) == 4
    assert pods.counts == [1, 2, 4, 8]
