"""
Connecting from inside a pod's network namespace.

Delivery dials the pod's own address (not loopback): the application that listens on
that address alone is reached, one that listens on loopback alone is not exposed, and
`getsockname()` in the server is true without help. The client's address is announced
to the kernel first, so `accept()` shows it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator

import trio

from agent.addresses import ClientAddress, DeliveryAddress, SocketAddress
from agent.errors import PodlockError
from agent.proxy.pod import LocalPod
from agent.proxy.reactor import WRITABLE, Reactor
from agent.proxy.seams import KernelMaps, PodSockets
from agent.proxy.session import Traffic
from agent.proxy.sockets import closing
from agent.proxy.stock import UNUSED_SECONDS, SocketStock
from agent.proxy.transport import explain
from agent.tcp import close_hard, tune


class CannotConnect(PodlockError):
    """The destination did not take the connection."""


class Dialer:
    """Opens the proxy's connections in pods' network namespaces."""

    def __init__(
        self,
        maps: KernelMaps,
        sockets: PodSockets,
        reactor: Reactor,
        timeout_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._maps = maps
        self._sockets = sockets
        self._reactor = reactor
        self._stock = SocketStock(sockets, clock)
        self._timeout_seconds = timeout_seconds

    async def tidy(self) -> None:
        """Forever: close sockets that were made ahead and are not wanted any more."""
        while True:
            await trio.sleep(UNUSED_SECONDS)
            self._stock.tidy()

    def forget(self, pod: LocalPod) -> None:
        """The pod is gone, or its namespace is another one."""
        self._stock.drop(pod.netns_fd)

    async def reach(self, pod: LocalPod, destination: SocketAddress) -> socket.socket:
        """
        Connect from `pod` to an address as the pod itself would, without redirect.

        Raises: CannotConnect, naming the address and the kernel's reason.
        """
        sock = self._open(pod, destination)
        tune(sock)
        try:
            await self._connect(sock, destination)
        except BaseException:
            close_hard(sock)
            raise
        return sock

    async def deliver(
        self, pod: LocalPod, destination: DeliveryAddress, client: ClientAddress
    ) -> socket.socket:
        """
        Connect to an application in `pod`; it will see `client` as its peer.

        Raises: CannotConnect.
        """
        sock, source = self._bound(pod, destination)
        try:
            self._maps.announce(pod.netns_cookie, source, client)
            await self._connect(sock, destination)
        except BaseException:
            self._maps.withdraw(pod.netns_cookie, source)
            close_hard(sock)
            raise
        return sock

    def _bound(
        self, pod: LocalPod, destination: DeliveryAddress
    ) -> tuple[socket.socket, SocketAddress]:
        """
        A socket with a source of its own at the pod's address.

        Never the destination itself: with nobody listening there, TCP would connect
        the socket to itself (RFC 9293 section 3.5, simultaneous open).
        """
        while True:
            sock = self._open(pod, destination)
            try:
                sock.bind((str(destination.ip), 0))
                source = SocketAddress.of(sock.getsockname())
            except OSError as error:
                sock.close()
                raise CannotConnect(f"{destination}: {explain(error)}") from error
            if source != destination:
                return sock, source
            sock.close()

    @contextlib.contextmanager
    def carrying(
        self, pod: LocalPod, app: socket.socket, traffic: Traffic
    ) -> Iterator[None]:
        """
        Close a delivered connection after the block, hard if it failed.

        Its announcement goes too, where it may still be there: a server with
        TCP_DEFER_ACCEPT has not made the socket that takes it before data came; one
        that has answered has.
        """
        source = SocketAddress.of(app.getsockname())
        try:
            with closing(app):
                yield
        finally:
            if not traffic.received:
                self._maps.withdraw(pod.netns_cookie, source)

    def _open(self, pod: LocalPod, destination: SocketAddress) -> socket.socket:
        family = socket.AF_INET if destination.ip.version == 4 else socket.AF_INET6
        sock = self._stock.take(pod.netns_fd, family)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        return sock

    async def _connect(self, sock: socket.socket, to: SocketAddress) -> None:
        cookie = self._sockets.cookie(sock)
        self._maps.allow(cookie)
        try:
            await self._connected(sock, to)
        except OSError as error:
            raise CannotConnect(f"{to}: {explain(error)}") from error
        except trio.TooSlowError as error:
            seconds = f"{self._timeout_seconds:g}"
            raise CannotConnect(f"{to}: no answer within {seconds} s") from error
        finally:
            self._maps.disallow(cookie)

    async def _connected(self, sock: socket.socket, to: SocketAddress) -> None:
        """Raises: OSError, trio.TooSlowError."""
        address = str(to.ip), to.port
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            # Within one namespace the handshake was done before connect returned.
            code = sock.connect_ex(address)
        if code == errno.EALREADY:
            with trio.fail_after(self._timeout_seconds):
                await self._reactor.wait(sock, WRITABLE)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
