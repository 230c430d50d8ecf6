"""Where an outbound connection goes is decided from values, and never to plaintext."""

from __future__ import annotations

import pytest

from agent.addresses import OriginalDestination, SocketAddress, parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.proxy.routing import NoRoute, Outside, ToPeer, route
from agent.workload.directory import Directory, Endpoint, Peer, VirtualService

TD = TrustDomain("cluster.local")
OWN = (parse_ip("10.244.1.2"), parse_ip("fd00:244:1::2"))


def peer(name: str, address: str, *, meshed: bool = True) -> Peer:
    namespace, account = name.split("/")
    identity = SpiffeId.for_workload(TD, namespace, account)
    return Peer(f"uid-{account}", name, identity, (parse_ip(address),), meshed, "n2")


API = peer("shop/api", "10.244.2.2")
OUTSIDER = peer("shop/legacy", "10.244.2.9", meshed=False)


def at(text: str) -> OriginalDestination:
    return OriginalDestination(SocketAddress.parse(text))


def endpoint(text: str, uid: str | None = "uid-api") -> Endpoint:
    return Endpoint(at(text), uid)  # type: ignore[arg-type]  # one address, two roles


WORLD = Directory(
    peers={p.addresses[0]: p for p in (API, OUTSIDER)},
    services={
        at("10.96.0.10:80"): VirtualService(
            "shop/api", 80, (endpoint("10.244.2.2:8080"),)
        ),
        at("10.96.0.11:80"): VirtualService("shop/empty", 80),
        at("10.96.0.12:80"): VirtualService(
            "shop/self", 80, (endpoint("10.244.1.2:80", "uid-web"),)
        ),
        at("10.96.0.13:80"): VirtualService(
            "evil/relay", 80, (endpoint("10.96.0.10:80", None),)
        ),
    },
)


def decide(text: str) -> ToPeer | Outside:
    return route(at(text), OWN, WORLD, lambda service: service.endpoints[0])


class TestRefused:
    def test_a_service_without_endpoints(self) -> None:
        """Nobody to talk to is said at once, and names the Service."""
        with pytest.raises(NoRoute, match="shop/empty: no ready endpoint"):
            decide("10.96.0.11:80")

    def test_an_endpoint_that_is_a_service(self) -> None:
        """Whoever writes slices could lead us past the tunnel: shop/api is meshed."""
        with pytest.raises(
            NoRoute, match=r"evil/relay: its endpoint 10\.96\.0\.10:80 is"
        ):
            decide("10.96.0.13:80")

    def test_a_port_that_the_service_does_not_have(self) -> None:
        """A Service address never passes through to wherever it would lead."""
        with pytest.raises(NoRoute, match="no such port"):
            decide("10.96.0.10:81")

    @pytest.mark.parametrize("port", [15001, 15006, 15008])
    def test_the_agents_own_ports(self, port: int) -> None:
        """A connection can not loop through the agent, on a peer or on itself."""
        with pytest.raises(NoRoute, match="belongs to the agent"):
            decide(f"10.244.2.2:{port}")
        with pytest.raises(NoRoute, match="belongs to the agent"):
            decide(f"10.244.1.2:{port}")


class TestDecided:
    def test_a_meshed_pod_is_reached_by_tunnel(self) -> None:
        """The tunnel goes to the pod's own address, port 15008, under its identity."""
        decided = decide("10.244.2.2:6379")

        assert isinstance(decided, ToPeer)
        assert str(decided.tunnel) == "10.244.2.2:15008"
        assert str(decided.delivery) == "10.244.2.2:6379"
        assert (decided.peer, decided.service) == (API, None)

    def test_a_service_becomes_its_endpoint(self) -> None:
        """The target port is the endpoint's, and the Service's name is kept."""
        decided = decide("10.96.0.10:80")

        assert isinstance(decided, ToPeer)
        assert str(decided.delivery) == "10.244.2.2:8080"
        assert decided.service == "shop/api"

    @pytest.mark.parametrize("text", ["192.0.2.1:443", "10.244.2.9:80"])
    def test_outside_the_mesh_passes_through(self, text: str) -> None:
        """Unknown addresses and pods without the mesh get plain TCP."""
        assert decide(text) == Outside(at(text), None)

    def test_oneself_stays_inside(self) -> None:
        """A pod that calls itself, also by its Service, does not leave the pod."""
        assert decide("10.244.1.2:80") == Outside(at("10.244.1.2:80"), None)
        assert decide("10.96.0.12:80") == Outside(at("10.244.1.2:80"), "shop/self")
