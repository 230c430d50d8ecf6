"""Every connection has its options, also one that a listener accepts."""

from __future__ import annotations

import socket

from agent.proxy.sockets import LINGER_RESET
from agent.tcp import tune

WANTED = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 180,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 180,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 9,
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): 1,
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
