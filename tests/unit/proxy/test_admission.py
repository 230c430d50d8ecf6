"""What a tunnel may ask for: this pod's own address, an application's port."""

from __future__ import annotations

import pytest

from agent.addresses import SocketAddress, parse_ip
from agent.proxy.admission import NotAdmitted, client_address, delivery_address

LOCAL = parse_ip("10.244.2.2")
TUNNEL_PEER = SocketAddress(parse_ip("10.244.1.2"), 50000)


class TestAuthority:
    @pytest.mark.parametrize(
        ("authority", "status"),
        [
            ("", 400),
            ("10.244.2.2", 400),
            ("10.244.2.2:0", 400),
            ("10.244.2.2:65536", 400),
            ("api.shop.svc:80", 400),
            ("10.244.2.3:80", 400),
            ("[fd00::1]:80", 400),
            ("127.0.0.1:80", 400),
            ("10.244.2.2:15001", 503),
            ("10.244.2.2:15006", 503),
            ("10.244.2.2:15008", 503),
        ],
    )
    def test_refused(self, authority: str, status: int) -> None:
        """Another address, no address or a port of ours: the status ztunnel gives."""
        with pytest.raises(NotAdmitted) as caught:
            delivery_address(authority, LOCAL)
        assert caught.value.status == status

    def test_admitted(self) -> None:
        """The pod's own address is delivered to, in either way to write it."""
        assert str(delivery_address("10.244.2.2:80", LOCAL)) == "10.244.2.2:80"
        mapped = delivery_address("[::ffff:10.244.2.2]:80", LOCAL)
        assert str(mapped) == "10.244.2.2:80"


class TestClientAddress:
    def test_the_port_comes_from_the_header(self) -> None:
        """The application sees the client's own port, not the tunnel's."""
        told = client_address('for="10.244.1.2:41234"', TUNNEL_PEER)
        assert str(told) == "10.244.1.2:41234"

    def test_another_address_is_not_believed(self) -> None:
        """A header can not lend anybody an address: the kernel's word stands."""
        assert client_address('for="10.244.9.9:1"', TUNNEL_PEER) == TUNNEL_PEER

    def test_without_the_header(self) -> None:
        """A peer that does not tell is shown as its tunnel."""
        assert client_address(None, TUNNEL_PEER) == TUNNEL_PEER

    def test_garbage_is_refused(self) -> None:
        """A header that is not RFC 7239 is answered with 400."""
        with pytest.raises(NotAdmitted, match="forwarded"):
            client_address("for=", TUNNEL_PEER)
