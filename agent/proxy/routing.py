"""
Where an outbound connection goes: a pure decision.

A meshed destination is reached by tunnel or not at all; a plaintext fallback would
look like mutual TLS and not be. Only what is surely outside the mesh passes through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.addresses import (
    DeliveryAddress,
    IPAddress,
    OriginalDestination,
    SocketAddress,
    TunnelAddress,
)
from agent.errors import Refused
from agent.workload.directory import Directory, Endpoint, Peer, VirtualService

OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006
TUNNEL_PORT: Final = 15008
# A connection that asks for one of these would loop through the agent itself.
RESERVED_PORTS: Final = frozenset({OUTBOUND_PORT, INBOUND_PORT, TUNNEL_PORT})

Choose = Callable[[VirtualService], Endpoint]
"""Picks one endpoint of a service that has some (see balance)."""


class NoRoute(Refused):
    """The destination is known, and cannot be reached as the mesh demands."""


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Through a tunnel to `peer`, to be delivered at `delivery`."""

    peer: Peer
    tunnel: TunnelAddress
    delivery: DeliveryAddress
    service: str | None


@dataclass(frozen=True, slots=True)
class Outside:
    """Straight on, in plaintext, from the pod's own network namespace."""

    destination: SocketAddress
    service: str | None


Route = ToPeer | Outside


def route(
    original: OriginalDestination,
    own_addresses: Sequence[IPAddress],
    directory: Directory,
    choose: Choose,
) -> Route:
    """
    Decide the route of a connection to `original`.

    Raises: NoRoute for a Service without a ready endpoint or whose endpoint is a
    Service's address, a Service address on a port it does not have, and the agent's own
    ports on a meshed workload.
    """
    service = directory.service_at(original)
    if service is not None:
        if not service.endpoints:
            raise NoRoute(f"Service {service.name}: no ready endpoint for {original}")
        chosen = choose(service).address
        if directory.owns(chosen.ip):
            # kube-proxy would turn it to a pod that may be meshed, in plaintext.
            text = f"its endpoint {chosen} is the address of a Service"
            raise NoRoute(f"Service {service.name}: {text}")
        return _to(chosen, own_addresses, directory, service.name)
    if directory.owns(original.ip):
        raise NoRoute(f"{original}: the Service at this address has no such port")
    return _to(original, own_addresses, directory, None)


def _to(
    address: SocketAddress,
    own_addresses: Sequence[IPAddress],
    directory: Directory,
    service: str | None,
) -> Route:
    if address.ip in own_addresses:
        # To itself: stays on the pod's loopback, and sk_lookup lets `lo` pass.
        if address.port in RESERVED_PORTS:
            raise NoRoute(f"{address}: port {address.port} belongs to the agent")
        return Outside(address, service)
    peer = directory.peer_at(address.ip)
    if peer is None or not peer.meshed:
        return Outside(address, service)
    if address.port in RESERVED_PORTS:
        raise NoRoute(f"{peer.name}: port {address.port} belongs to the agent")
    tunnel = TunnelAddress(SocketAddress(address.ip, TUNNEL_PORT))
    return ToPeer(peer, tunnel, DeliveryAddress(address), service)
