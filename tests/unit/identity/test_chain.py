"""A chain tells what a certificate stands on, and refuses what is tainted."""

from __future__ import annotations

import pytest

from agent.identity.certificate import fingerprint
from agent.identity.chain import CertificateTainted, Chain
from tests.unit.identity.parts import API, credential_for, make_authority

AUTHORITY = make_authority()
CREDENTIAL = credential_for(AUTHORITY, API, serial=0xABC)
(ANCHOR,) = AUTHORITY.bundle.anchors
CHAIN = Chain.of_credential(CREDENTIAL, AUTHORITY.bundle)


def test_names_issuer_and_anchor() -> None:
    """As a status tells them, and as a peer's handshake gives the same chain."""
    _, issuer = CREDENTIAL.chain_der
    assert CHAIN.issuer == fingerprint(issuer)
    assert CHAIN.anchor == ANCHOR.fingerprint
    assert Chain.of((*CREDENTIAL.chain_der, ANCHOR.der)) == CHAIN


def test_an_anchor_that_left_the_bundle() -> None:
    """The issuer is still known; the anchor is not, and not taken for another."""
    chain = Chain.of_credential(CREDENTIAL, make_authority().bundle)
    assert chain.issuer == CHAIN.issuer
    assert chain.anchor is None


@pytest.mark.parametrize("kind", ["issuer", "anchor"])
def test_tainted(kind: str) -> None:
    """The reason names serial, identity, and which authority it is."""
    CHAIN.require_untainted(frozenset({"ab" * 32}))
    name = CHAIN.issuer if kind == "issuer" else CHAIN.anchor
    with pytest.raises(CertificateTainted, match=f"abc of .*/api .* {kind} {name}"):
        CHAIN.require_untainted(frozenset({name or ""}))
