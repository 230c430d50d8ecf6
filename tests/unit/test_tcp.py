"""Every connection has its options, also one that a listener accepts."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from agent.tcp import (
    LINGER_NONE,
    LINGER_RESET,
    arm,
    close_hard,
    close_in_order,
    tune,
)

WANTED = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 180,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 180,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 9,
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
    (socket.SOL_SOCKET, socket.SO_OOBINLINE): 1,
}


def options(sock: socket.socket) -> dict[tuple[int, int], int]:
    return {wanted: sock.getsockopt(*wanted) for wanted in WANTED}


def test_of_a_new_socket() -> None:
    """Keep-alive finds a peer that vanished within half an hour; nothing is delayed."""
    with socket.socket() as sock:
        assert options(sock) != WANTED
        tune(sock)
        assert options(sock) == WANTED


def test_are_inherited() -> None:
    """What a tuned listener accepts needs no calls of its own."""
    with socket.socket() as listener:
        tune(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert options(accepted) == WANTED


def test_of_a_connection_that_was_reset() -> None:
    """It raises nothing, and does not take the error from who uses the socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with accepted:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        client.close()
        tune(accepted)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def test_of_a_socket_without_tcp() -> None:
    """An option that does not apply is passed over."""
    left, right = socket.socketpair()
    with left, right:
        tune(left)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client, and what an armed and tuned listener accepted of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tune(listener)
        arm(listener)
        client = socket.create_connection(listener.getsockname(), timeout=30)
        accepted, _ = listener.accept()
    with client, accepted:
        yield client, accepted


Pair = tuple[socket.socket, socket.socket]


def test_an_armed_socket_is_reset_when_its_process_is_killed(pair: Pair) -> None:
    """The kernel closes it: a reader must not take that for the end of a transfer."""
    client, accepted = pair
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, accepted.send(b"a quarter").to_bytes(1))
        signal.pause()
        os._exit(0)
    accepted.close()
    assert os.read(read, 1)
    os.close(read)
    os.close(write)
    assert client.recv(100) == b"a quarter"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_a_socket_that_is_not_armed_ends_as_if_in_order(pair: Pair) -> None:
    """Why it is armed."""
    client, accepted = pair
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    accepted.close()
    assert client.recv(1) == b""


def test_an_end_in_order_delivers_what_was_written(pair: Pair) -> None:
    client, accepted = pair
    size = accepted.send(bytes(1 << 20))
    close_in_order(accepted)
    got = 0
    while more := client.recv(1 << 16):
        got += len(more)
    assert got == size


def test_a_hard_end_is_a_reset(pair: Pair) -> None:
    client, accepted = pair
    close_hard(accepted)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_an_urgent_byte_stays_in_its_place(pair: Pair) -> None:
    client, accepted = pair
    client.send(b"before")
    client.send(b"U", socket.MSG_OOB)
    client.send(b"after")
    client.shutdown(socket.SHUT_WR)
    got = b""
    while more := accepted.recv(100):
        got += more
    assert got == b"beforeUafter"
