"""The directory answers who is at an address."""

from __future__ import annotations

import pickle

from agent.addresses import DeliveryAddress, SocketAddress, parse_ip
from agent.identity.spiffe import SpiffeId
from agent.workload.directory import Directory, Endpoint, Peer, VirtualService

IP = parse_ip("10.1.0.1")
PEER = Peer("u", "shop/api", SpiffeId.parse("spiffe://td/a"), (IP,), True, "n1")
ADDRESS = SocketAddress.parse("10.96.0.1:80")
ENDPOINT = Endpoint(DeliveryAddress(SocketAddress(IP, 8080)), "u")
SERVICE = VirtualService("shop/api", 80, (ENDPOINT,))


class TestDirectory:
    def test_finds_what_it_has(self) -> None:
        """A pod by address, a service by address and port."""
        directory = Directory({IP: PEER}, {ADDRESS: SERVICE})

        assert directory.peer_at(IP) is PEER
        assert directory.service_at(ADDRESS) is SERVICE
        assert directory.peer_at(parse_ip("10.1.0.2")) is None

    def test_owns_every_port_of_a_service_address(self) -> None:
        """A port that a service does not have is its address all the same."""
        directory = Directory(
            {IP: PEER}, {ADDRESS: SERVICE}, frozenset({parse_ip("10.96.0.9")})
        )

        assert directory.service_at(SocketAddress.parse("10.96.0.1:81")) is None
        assert directory.owns(parse_ip("10.96.0.1"))
        assert directory.owns(parse_ip("10.96.0.9"))
        assert not directory.owns(IP)

    def test_travels_to_a_worker(self) -> None:
        """The same after pickling."""
        directory = Directory({IP: PEER}, {ADDRESS: SERVICE})

        assert pickle.loads(pickle.dumps(directory)) == directory  # noqa: S301 - our own
