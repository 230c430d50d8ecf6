"""A foreign workload is its whole SPIFFE ID, and never its namesake here."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from agent.identity.spiffe import SpiffeId
from agent.policy.decision import Denied, Request, authorize
from agent.policy.rule import (
    Authorization,
    DefaultPolicy,
    IdentityMatch,
    InboundPolicy,
    PortPolicy,
)

OURS = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")
THEIRS = SpiffeId.parse("spiffe://partner.example/ns/shop/sa/web")
NESTED = SpiffeId.parse("spiffe://cluster.local.partner.example/ns/shop/sa/web")
PARENT = SpiffeId.parse("spiffe://evil.cluster.local/ns/shop/sa/web")
DISGUISED = SpiffeId.parse(
    "spiffe://shop.serviceaccount.identity.linkerd.cluster.local/ns/shop/sa/web"
)


def permits(text: str, identity: SpiffeId) -> bool:
    """Whether a Server that admits `text` takes a client with this identity."""
    admitted = Authorization("MeshTLSAuthentication a", (IdentityMatch.parse(text),))
    port = PortPolicy("Server shop/api", authorizations=(admitted,))
    policy = InboundPolicy("shop/api", DefaultPolicy.DENY, ports={80: port})
    try:
        authorize(Request(identity, ip_address("10.0.0.1"), 80), policy)
    except Denied as denied:
        return str(identity) not in denied.reason  # it names whom it refuses
    return True


@pytest.mark.parametrize(
    "ours",
    [
        str(OURS),
        "web.shop.serviceaccount.identity.linkerd.cluster.local",
        "*.shop.serviceaccount.identity.linkerd.cluster.local",
        "*.cluster.local",
    ],
)
def test_what_admits_ours_admits_no_namesake(ours: str) -> None:
    """The trust domain is part of every form of an identity; the refusal tells it."""
    assert permits(ours, OURS)
    assert not permits(ours, THEIRS)
    assert not permits(ours, NESTED)
    assert not permits(ours, PARENT)
    assert not permits(ours, DISGUISED)


@pytest.mark.parametrize(
    "theirs", [str(THEIRS), "*.shop.serviceaccount.identity.linkerd.partner.example"]
)
def test_a_foreign_workload_can_be_admitted(theirs: str) -> None:
    """By its SPIFFE ID, or by all of its namespace."""
    assert permits(theirs, THEIRS)
    assert not permits(theirs, OURS)


def test_every_identity_means_federated_ones_too() -> None:
    """`*` is who proved anything: who federates and writes it lets partners in."""
    assert permits("*", THEIRS)
