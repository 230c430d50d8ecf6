"""Networks and ages, as all policy kinds have them."""

from __future__ import annotations

import ipaddress

import pytest

from agent.policy.objects import host_bits, parse_network
from tests.unit.policy.samples import server


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("fd00::1/8", "fd00::/8"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_without_its_host_bits(text: str, network: str) -> None:
    """As Linkerd and Istio read them."""
    assert parse_network(text) == ipaddress.ip_network(network)


@pytest.mark.parametrize(
    "text", ["", "all", "10.0.0.0/33", "::ffff:10.0.0.0/104", "fe80::1%eth0", "1/x"]
)
def test_what_is_no_network(text: str) -> None:
    """Mapped networks too: sources are plain IPv4."""
    with pytest.raises(ValueError, match=r"network|IPv4"):
        parse_network(text)


def test_host_bits() -> None:
    """Only where there are some."""
    assert host_bits("10.0.0.1/8") == ipaddress.ip_network("10.0.0.0/8")
    assert host_bits("FD00:0::/8") is None
    assert host_bits("10.0.0.0/8") is None
    assert host_bits("10.0.0.1") is None


def test_age_is_by_time_then_by_name() -> None:
    """Unknown ages come last."""
    old, new = server("b/z", created="2026-01-01"), server("a/a", created="2026-02-01")
    unknown, other = server("a/b"), server("a/c")

    ordered = sorted([other, unknown, new, old], key=lambda item: item.age)
    assert ordered == [old, new, unknown, other]
