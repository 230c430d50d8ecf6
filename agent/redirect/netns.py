"""
Sockets in another network namespace.

A thread enters, makes the socket and comes back in one synchronous step, so no other
task of the loop ever runs in a pod's namespace. A socket stays where it was made.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import os
import socket
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from agent.errors import KernelError

CLONE_NEWNET: Final = 0x40000000
SO_COOKIE: Final = 57  # asm-generic/socket.h; Python 3.11 has no name for either
SO_NETNS_COOKIE: Final = 71  # Linux 5.14
OWN_NETNS: Final = Path("/proc/thread-self/ns/net")


@cache
def _libc() -> ct.CDLL:
    library = ct.CDLL(None, use_errno=True)
    library.setns.argtypes = (ct.c_int, ct.c_int)
    library.setns.restype = ct.c_int
    return library


def _enter(netns_fd: int) -> None:
    if _libc().setns(netns_fd, CLONE_NEWNET):
        code = ct.get_errno()
        raise KernelError(f"enter a network namespace: {os.strerror(code)}")


@cache
def _home() -> int:
    """The namespace that this process started in and never leaves for good."""
    return os.open(OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def inside(netns_fd: int) -> Iterator[None]:
    """
    Run a block in a network namespace; no await and no other `inside` may be in it.

    Raises: KernelError when the namespace cannot be entered. When the way back
    fails the process is aborted: to go on in a pod's namespace would be worse.
    """
    home = _home()
    _enter(netns_fd)
    try:
        yield
    finally:
        try:
            _enter(home)
        except KernelError:
            os.abort()


def sockets_in(netns_fd: int, family: int, count: int = 1) -> list[socket.socket]:
    """
    Non-blocking TCP sockets in a network namespace, all that could be made of `count`.

    Raises: KernelError when there is not even one.
    """
    made: list[socket.socket] = []
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    try:
        with inside(netns_fd):
            while len(made) < count:
                made.append(socket.socket(family, kind))
    except OSError as error:
        if not made:
            raise KernelError(f"a socket in a pod: {error.strerror}") from error
    return made


def _cookie(s: socket.socket, option: int) -> int:
    try:
        raw = s.getsockopt(socket.SOL_SOCKET, option, 8)
    except OSError as error:
        raise KernelError(f"a socket's cookie: {error.strerror}") from error
    cookie: int = struct.unpack("=Q", raw)[0]
    return cookie


def netns_cookie(s: socket.socket) -> int:
    """The cookie of the namespace that a socket lives in; never used twice a boot."""
    return _cookie(s, SO_NETNS_COOKIE)


def socket_cookie(s: socket.socket) -> int:
    """A socket's own cookie, which no pod can forge."""
    return _cookie(s, SO_COOKIE)


def netns_cookie_of(netns_fd: int) -> int:
    """The cookie of an open namespace. Raises: KernelError if it is not one."""
    (made,) = sockets_in(netns_fd, socket.AF_INET)
    with made as probe:
        return netns_cookie(probe)


def own_netns_cookie() -> int:
    """The cookie of the namespace that this process runs in."""
    with socket.socket() as probe:
        return netns_cookie(probe)
