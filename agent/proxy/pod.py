"""A captured pod as a worker holds it: its namespace, listeners and policy."""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.addresses import IPAddress
from agent.identity.spiffe import SpiffeId
from agent.policy.rule import InboundPolicy
from agent.proxy.instructions import PodCaptured

if TYPE_CHECKING:
    from agent.proxy.listener import Acceptor
    from agent.proxy.tunnel import Tunnel


CLOSED: Final = -1


@dataclass(slots=True, eq=False)
class LocalPod:
    """Owns its descriptors; `close` gives them back. `policy` is the one in force."""

    uid: str
    name: str
    identity: SpiffeId
    netns_fd: int
    netns_cookie: int
    addresses: tuple[IPAddress, ...]
    policy: InboundPolicy
    tunnel: socket.socket
    inbound: socket.socket
    outbound: tuple[socket.socket, ...]
    tunnels: set[Tunnel] = field(default_factory=set)
    tunnels_from: Counter[IPAddress] = field(default_factory=Counter)
    acceptors: list[Acceptor] = field(default_factory=list)
    listening: bool = True

    @classmethod
    def adopt(cls, told: PodCaptured, descriptors: list[int]) -> LocalPod:
        """A pod from control's message and the descriptors that came with it."""
        netns_fd, *listeners = descriptors
        tunnel, inbound, *outbound = (socket.socket(fileno=fd) for fd in listeners)
        for listener in (tunnel, inbound, *outbound):
            listener.setblocking(False)
        return cls(
            uid=told.uid,
            name=told.name,
            identity=told.identity,
            netns_fd=netns_fd,
            netns_cookie=told.netns_cookie,
            addresses=told.addresses,
            policy=told.policy,
            tunnel=tunnel,
            inbound=inbound,
            outbound=tuple(outbound),
        )

    def is_where(self, other: LocalPod) -> bool:
        """Whether it is the same pod, in the same namespace with the same addresses."""
        return (self.uid, self.netns_cookie, self.addresses) == (
            other.uid,
            other.netns_cookie,
            other.addresses,
        )

    def become(self, other: LocalPod) -> None:
        """Take the name, identity and policy of `other`, which is closed."""
        self.name, self.identity = other.name, other.identity
        self.policy = other.policy
        other.close()

    def stop_listening(self) -> None:
        """Take no more connections; those there are go on."""
        self.listening = False
        for acceptor in self.acceptors:
            acceptor.stop()
        for listener in (self.tunnel, self.inbound, *self.outbound):
            listener.close()

    def close(self) -> None:
        """Stop listening, close its tunnels and let go of the namespace."""
        self.stop_listening()
        for tunnel in list(self.tunnels):
            tunnel.shut("the pod is gone")
        # Whoever still holds this pod must not enter what gets the number next.
        os.close(self.netns_fd)
        self.netns_fd = CLOSED
