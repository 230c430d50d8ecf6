"""
TCP sockets of a pod's network namespace: listed, and destroyed by the kernel.

Each call opens a netlink socket in the namespace, asks, and closes it: some system
calls and no wait. It takes CAP_NET_ADMIN to destroy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from agent.errors import KernelError
from agent.redirect import inet_diag
from agent.redirect.inet_diag import DiagSocket, Refusal
from agent.redirect.netns import inside

_RECEIVE_BYTES: Final = 1 << 18
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
# The socket ended by itself meanwhile.
_GONE: Final = (errno.ENOENT, errno.ECONNREFUSED)

Choose = Callable[[DiagSocket], bool]


def list_sockets(netns_fd: int) -> list[DiagSocket]:
    """Every live TCP socket of a namespace, of both families. Raises: KernelError."""
    with _diagnosis(netns_fd) as netlink:
        return list(_dump(netlink))


def destroy_sockets(
    netns_fd: int, choose: Choose, ports: AbstractSet[int] | None = None
) -> int:
    """
    Destroy the live TCP sockets of a namespace that `choose` picks; how many.

    With `ports`, only those with one of these at either end are looked at: a tenth of
    the work where there are thousands. Raises: KernelError.
    """
    with _diagnosis(netns_fd) as netlink:
        found = list(_dump(netlink, choose, ports))
        return sum(_destroy(netlink, each) for each in found)


def probe() -> None:
    """
    Whether this kernel destroys sockets, tried with one of our own.

    Raises: KernelError with the reason; then no live connection could be revoked.
    """
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            with socket.create_connection(server.getsockname(), 1.0) as client:
                ours = (client.getsockname()[1], server.getsockname()[1])
                ended = destroy_sockets(
                    here, lambda each: (each.local.port, each.remote.port) == ours
                )
                if not ended or not _is_aborted(client):
                    raise KernelError("a destroyed socket went on living")
    except OSError as error:
        raise KernelError(f"destroy a socket: {error.strerror}") from error
    finally:
        os.close(here)


def _is_aborted(client: socket.socket) -> bool:
    try:
        client.setblocking(False)
        client.recv(1)
    except ConnectionError:
        return True
    except BlockingIOError:
        return False
    return False


@contextlib.contextmanager
def _diagnosis(netns_fd: int) -> Iterator[socket.socket]:
    try:
        with inside(netns_fd):
            netlink = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_CLOEXEC,
                inet_diag.NETLINK_SOCK_DIAG,
            )
    except OSError as error:
        raise KernelError(f"inet_diag: {error.strerror}") from error
    with netlink:
        yield netlink


def _dump(
    netlink: socket.socket,
    choose: Choose = lambda _: True,
    ports: AbstractSet[int] | None = None,
) -> Iterator[DiagSocket]:
    """All answers are read before the first one is handed out: it may be destroyed."""
    found: list[DiagSocket] = []
    for family in _FAMILIES:
        try:
            for kind, body in _ask(netlink, inet_diag.dump_request(family)):
                if kind == inet_diag.SOCK_DIAG_BY_FAMILY:
                    if ports is not None and ports.isdisjoint(inet_diag.ports(body)):
                        continue
                    each = inet_diag.unpack_socket(body)
                    if choose(each):
                        found.append(each)
        except Refusal as error:
            # A kernel without IPv6 has no such sockets.
            if family != socket.AF_INET6 or error.code != errno.ENOENT:
                raise _named("list sockets", error) from error
    yield from found


def _destroy(netlink: socket.socket, found: DiagSocket) -> bool:
    try:
        for _ in _ask(netlink, inet_diag.destroy_request(found)):
            pass
    except Refusal as error:
        if error.code in _GONE:
            return False
        raise _named("destroy a socket", error) from error
    return True


def _ask(netlink: socket.socket, request: bytes) -> Iterator[tuple[int, bytes]]:
    """Send one request and read its answers to the last."""
    try:
        netlink.sendto(request, (0, 0))
        while True:
            for kind, body in inet_diag.messages(netlink.recv(_RECEIVE_BYTES)):
                yield kind, body
                if kind in (inet_diag.NLMSG_DONE, inet_diag.NLMSG_ERROR):
                    return
    except OSError as error:
        raise KernelError(f"inet_diag: {error.strerror}") from error


def _named(what: str, error: Refusal) -> KernelError:
    return KernelError(f"{what}: {os.strerror(error.code)}")
