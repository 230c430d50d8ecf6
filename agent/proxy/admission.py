"""
Whether a CONNECT that arrived in a tunnel may go on: a pure decision.

The rules are ztunnel's (its `build_inbound_request`), so that an Istio ambient node
gets the answers it knows: 400 for a request that makes no sense here, 503 for a port
that would loop, 401 where policy says no.
"""

from __future__ import annotations

from agent.addresses import (
    ClientAddress,
    DeliveryAddress,
    InvalidAddress,
    IPAddress,
    SocketAddress,
)
from agent.errors import Refused
from agent.hbone.forwarded import InvalidForwarded, parse_forwarded
from agent.proxy.routing import RESERVED_PORTS


class NotAdmitted(Refused):
    """A CONNECT was answered with `status` instead of 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def delivery_address(authority: str, local: IPAddress) -> DeliveryAddress:
    """
    Where to deliver a CONNECT to `authority` that came to the pod address `local`.

    Raises: NotAdmitted with 400 when the authority is not ADDRESS:PORT or names
    another address than the one the tunnel came to, with 503 for our own ports.
    """
    try:
        asked = SocketAddress.parse(authority)
    except InvalidAddress as error:
        raise NotAdmitted(400, f":authority: {error}") from error
    if asked.ip != local:
        raise NotAdmitted(400, f":authority {asked} came to another address, {local}")
    if asked.port in RESERVED_PORTS:
        raise NotAdmitted(503, f":authority {asked}: the port belongs to the agent")
    return DeliveryAddress(asked)


def client_address(forwarded: str | None, tunnel_peer: SocketAddress) -> ClientAddress:
    """
    The address that the application shall see as its client.

    The tunnel comes from the client's own network namespace, so the kernel attests
    its IP address; `forwarded` (RFC 7239) only adds the client's port. A header that
    names another address is not believed.
    """
    if forwarded is None:
        return ClientAddress(tunnel_peer)
    try:
        told = parse_forwarded(forwarded)
    except InvalidForwarded as error:
        raise NotAdmitted(400, f"forwarded: {error}") from error
    if told.ip != tunnel_peer.ip:
        return ClientAddress(tunnel_peer)
    return told
