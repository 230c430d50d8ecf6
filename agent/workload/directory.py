"""
Who is where: all that a proxy worker needs to route a connection.

Immutable and picklable; control makes a new one at every change and sends what differs
(see delta).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.addresses import DeliveryAddress, IPAddress, SocketAddress
from agent.identity.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class Peer:
    """A pod, on any node, that holds its `addresses` alone; `name` is `shop/api`."""

    uid: str
    name: str
    identity: SpiffeId
    addresses: tuple[IPAddress, ...]
    meshed: bool
    node: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    Where one backend of a service listens.

    `peer` is the uid of the pod there, or None for an address outside the mesh or
    of the host network.
    """

    address: DeliveryAddress
    peer: str | None


@dataclass(frozen=True, slots=True)
class VirtualService:
    """
    One port of a service, `shop/api`, with its backends now; there may be none.

    `affinity_seconds`: so long after its last connection a client stays where it was.
    """

    name: str
    port: int
    endpoints: tuple[Endpoint, ...] = ()
    affinity_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Directory:
    """Pods by address and services by address and port."""

    peers: Mapping[IPAddress, Peer] = field(default_factory=dict)
    services: Mapping[SocketAddress, VirtualService] = field(default_factory=dict)
    service_addresses: frozenset[IPAddress] = frozenset()
    """Addresses of services, also of those with no TCP port; see `owns`."""

    def __post_init__(self) -> None:
        owned = self.service_addresses.union(at.ip for at in self.services)
        object.__setattr__(self, "service_addresses", owned)

    def peer_at(self, ip: IPAddress) -> Peer | None:
        """The pod that holds `ip`, if one does."""
        return self.peers.get(ip)

    def service_at(self, address: SocketAddress) -> VirtualService | None:
        """The service port at `address`, if there is one."""
        return self.services.get(address)

    def owns(self, ip: IPAddress) -> bool:
        """
        Whether `ip` is some service's address, on whichever port.

        Nothing can listen there but a service port: a connection to another port
        of it is refused, not passed through.
        """
        return ip in self.service_addresses
