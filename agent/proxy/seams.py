"""
What the proxy asks of its surroundings, as Protocols; the composition root joins them.

The proxy knows neither BPF maps nor setns: `agent.redirect` provides both and never
meets the proxy, so either side can be tested, and replaced, alone.
"""

from __future__ import annotations

import socket
from typing import Protocol

from agent.addresses import ClientAddress, OriginalDestination, SocketAddress


class KernelMaps(Protocol):
    """The redirect's maps, as far as the data path needs them."""

    def allow(self, socket_cookie: int) -> None:
        """The next connect of this socket is the agent's own: leave it alone."""

    def disallow(self, socket_cookie: int) -> None:
        """Forget `allow`."""

    def take_original(
        self, netns_cookie: int, client: ClientAddress
    ) -> OriginalDestination | None:
        """Where the client meant to go, told once; None if it came by itself."""

    def announce(
        self, netns_cookie: int, source: SocketAddress, client: ClientAddress
    ) -> None:
        """A connection from `source` shall look to the application as from `client`."""

    def withdraw(self, netns_cookie: int, source: SocketAddress) -> None:
        """Forget `announce`; for a connection that never came to be."""


class PodSockets(Protocol):
    """Sockets that live in a pod's network namespace."""

    def open(self, netns_fd: int, family: int, count: int) -> list[socket.socket]:
        """
        Non-blocking TCP sockets in that namespace, at least one, at most `count`.

        Raises: KernelError.
        """

    def cookie(self, sock: socket.socket) -> int:
        """The kernel's cookie of a socket, which nobody can forge."""
