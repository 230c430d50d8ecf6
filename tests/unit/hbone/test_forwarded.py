"""`forwarded` names exactly one client, or it is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import ClientAddress, SocketAddress
from agent.hbone.forwarded import InvalidForwarded, format_forwarded, parse_forwarded


def address(text: str) -> ClientAddress:
    return ClientAddress(SocketAddress.parse(text))


class TestFormat:
    @pytest.mark.parametrize("text", ["10.0.0.1:1234", "[2001:db8::1]:1234"])
    def test_quotes_the_address(self, text: str) -> None:
        """RFC 7239 section 6: a port or IPv6 needs quotes."""
        assert format_forwarded(address(text)) == f'for="{text}"'


class TestParse:
    @given(st.ip_addresses(), st.integers(1, 65_535))
    def test_reads_back(
        self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
    ) -> None:
        """Every address that we write we understand."""
        host = f"[{ip}]" if ip.version == 6 else str(ip)
        if ip.version == 6 and ip.scope_id:
            return
        client = address(f"{host}:{port}")

        assert parse_forwarded(format_forwarded(client)) == client

    @pytest.mark.parametrize(
        "text",
        [
            'FOR="10.0.0.1:80"',
            'for="10.0.0.1:80";host=shop.default.svc',
            'host="a\\"b";For="10.0.0.1:80";proto=http',
            'for="10.0.0.1\\:80"',
        ],
    )
    def test_reads_other_ways_to_say_it(self, text: str) -> None:
        """Names in any case, quoted pairs, parameters that are not ours."""
        assert parse_forwarded(text) == address("10.0.0.1:80")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "10.0.0.1:80",
            "host=a",
            "for=",
            "for=10.0.0.1:80",
            'for="10.0.0.1"',
            "for=10.0.0.1",
            'for="10.0.0.1:0"',
            'for="10.0.0.1:_p"',
            'for="2001:db8::1:80"',
            'for="[2001:db8::1]"',
            'for="web:80"',
            "for=unknown",
            "for=_hidden",
            'for="10.0.0.1:80',
            'for="10.0.0.1:80";',
            ';for="10.0.0.1:80"',
            ' for="10.0.0.1:80"',
            'for = "10.0.0.1:80"',
            'for="10.0.0.1:80";for="10.0.0.2:80"',
            'for="10.0.0.1:80";FOR="10.0.0.1:80"',
            'for="10.0.0.1:80", for="10.0.0.2:80"',
            'for="10.0.0.1:80"\n',
            'for="10.0.0.1:80";host=' + "a" * 1_100,
        ],
    )
    def test_refuses(self, text: str) -> None:
        """No address, no port, more than one client, or not the grammar."""
        with pytest.raises(InvalidForwarded):
            parse_forwarded(text)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Nothing but InvalidForwarded comes out."""
        try:
            parse_forwarded(text)
        except InvalidForwarded:
            return
