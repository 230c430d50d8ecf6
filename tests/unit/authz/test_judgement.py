"""A verdict where the client's address is known, and where it is not."""

from __future__ import annotations

import ipaddress

import pytest

from agent.addresses import parse_ip
from agent.authz.judgement import (
    Destination,
    NeedsAddress,
    admitted_networks,
    judge,
)
from agent.identity.spiffe import SpiffeId
from agent.policy.rule import (
    Authorization,
    DefaultPolicy,
    InboundPolicy,
    NetworkMatch,
    PortPolicy,
)

WEB = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")


def network(cidr: str, *excluded: str) -> NetworkMatch:
    return NetworkMatch(
        ipaddress.ip_network(cidr), tuple(ipaddress.ip_network(e) for e in excluded)
    )


def by_network(*networks: NetworkMatch) -> InboundPolicy:
    rule = Authorization("AuthorizationPolicy shop/near", None, networks)
    port = PortPolicy("Server shop/api", DefaultPolicy.DENY, (rule,))
    return InboundPolicy("shop/api", DefaultPolicy.DENY, ports={80: port})


def to(policy: InboundPolicy) -> Destination:
    return Destination(policy, 80)


class TestJudge:
    def test_known_address(self) -> None:
        """The verdict names the rule, and says what it was about."""
        verdict = judge(
            None, parse_ip("10.1.2.3"), to(by_network(network("10.0.0.0/8")))
        )
        assert verdict.allowed
        assert verdict.rule == "AuthorizationPolicy shop/near"
        assert "10.1.2.3" in verdict.reason

    def test_denied(self) -> None:
        """The Server, and why."""
        verdict = judge(
            None, parse_ip("11.0.0.1"), to(by_network(network("10.0.0.0/8")))
        )
        assert not verdict.allowed
        assert verdict.rule == "Server shop/api"
        assert "no authorization of Server shop/api matches" in verdict.reason

    def test_no_address_needed(self) -> None:
        """Where no network decides, an unknown address is no matter."""
        policy = InboundPolicy("shop/api", DefaultPolicy.ALL_AUTHENTICATED)
        assert judge(WEB, None, to(policy)).allowed
        assert not judge(None, None, to(policy)).allowed

    def test_address_needed(self) -> None:
        """Where one decides, the error says from where it is yes and from where no."""
        with pytest.raises(
            NeedsAddress, match=r"allowed from 10\.0\.0\.0, denied from"
        ):
            judge(WEB, None, to(by_network(network("10.0.0.0/8"))))

    def test_one_address_in_a_hole(self) -> None:
        """No range is missed, be it a single address."""
        policy = by_network(network("0.0.0.0/0", "10.0.0.7/32"), network("::/0"))
        with pytest.raises(NeedsAddress, match=r"denied from 10\.0\.0\.7"):
            judge(WEB, None, to(policy))

    def test_within(self) -> None:
        """Who is known to be in the cluster is judged from there."""
        within = (ipaddress.ip_network("10.0.0.0/8"),)
        policy = by_network(network("10.0.0.0/8"))
        assert judge(WEB, None, to(policy), within).allowed

    def test_audit(self) -> None:
        """Audit is allowed, and says that it would not be."""
        policy = InboundPolicy("shop/api", DefaultPolicy.AUDIT)
        verdict = judge(None, None, to(policy))
        assert (verdict.allowed, verdict.audit) == (True, True)
        assert "would refuse" in verdict.reason


class TestAdmittedNetworks:
    def test_holes(self) -> None:
        """Exactly the addresses that are admitted, in as few networks as that takes."""
        policy = by_network(network("10.0.0.0/30", "10.0.0.2/32"), network("fd00::/8"))
        found = [str(net) for net, _ in admitted_networks(None, to(policy))]
        assert found == ["10.0.0.0/31", "10.0.0.3/32", "fd00::/8"]

    def test_everybody(self) -> None:
        """Both families whole."""
        policy = InboundPolicy("shop/api", DefaultPolicy.ALL_UNAUTHENTICATED)
        found = [str(net) for net, _ in admitted_networks(None, to(policy))]
        assert found == ["0.0.0.0/0", "::/0"]
