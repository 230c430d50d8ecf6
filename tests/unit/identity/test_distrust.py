"""Tainted or revoked: either is enough, and each has its own reason."""

from __future__ import annotations

import pytest

from agent.identity.authority import Authority, create_issuer
from agent.identity.bundle import Bundle
from agent.identity.chain import CertificateTainted, Chain
from agent.identity.crl import CertificateRevoked, RevocationList, Revocations
from agent.identity.distrust import Distrust
from tests.unit.identity.crls import crl
from tests.unit.identity.parts import API, NOW, TD, anchor_at, credential_for

ANCHOR = anchor_at()
ISSUER = create_issuer(TD, ANCHOR, now=NOW, serial=0xB)
BUNDLE = Bundle.parse(TD, ANCHOR.certificate_pem)
AUTHORITY = Authority.assemble(BUNDLE, ISSUER.certificate_pem, ISSUER.key, now=NOW)
CHAIN = Chain.of_credential(credential_for(AUTHORITY, API, serial=5), BUNDLE)
REVOKED = Revocations([RevocationList.parse(crl(ISSUER, 5))])


def test_nothing_speaks_against_it() -> None:
    """By default nothing does."""
    Distrust().require_good(CHAIN)
    Distrust(frozenset({"00" * 32})).require_good(CHAIN)


def test_tainted() -> None:
    """By its issuer."""
    with pytest.raises(CertificateTainted):
        Distrust(frozenset({CHAIN.issuer or ""})).require_good(CHAIN)


def test_revoked() -> None:
    """By its number."""
    with pytest.raises(CertificateRevoked):
        Distrust(revocations=REVOKED).require_good(CHAIN)
