"""A trust document reads as it was written; anything else is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.identity.bundle import Bundle
from agent.identity.certificate import fingerprint
from agent.identity.spiffe import TrustDomain
from agent.identity.trust import (
    MAX_TRUST_BYTES,
    InvalidTrust,
    Trust,
    require_trust_of,
)
from tests.unit.identity.parts import API, TD, credential_for, ders, make_authority

AUTHORITY = make_authority()
FOREIGN = make_authority(td=TrustDomain("partner.example")).bundle
ISSUER = fingerprint(ders(AUTHORITY.chain_pem)[0])
ANCHOR = AUTHORITY.bundle.anchors[0].fingerprint
CHAIN = credential_for(AUTHORITY, API).chain_der

TRUST = Trust(
    version=7,
    bundle=AUTHORITY.bundle,
    tainted=frozenset({"a" * 64}),
    federated=(FOREIGN,),
    retiring=frozenset({"b" * 64}),
)


def test_reads_what_it_wrote() -> None:
    """One line, every field."""
    assert b"\n" not in TRUST.format()
    assert Trust.parse(TRUST.format()) == TRUST


def changed(**fields: Any) -> bytes:
    document = json.loads(TRUST.format())
    return json.dumps({**document, **fields}).encode()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "trust: Input data was truncated"),
        (b"[]", "trust: Expected `object`"),
        (changed(version=0), "version"),
        (changed(version="7"), "version"),
        (changed(trust_domain="UPPER"), "trust domain 'UPPER'"),
        (changed(trust_domain="other"), "is for trust domain cluster.local"),
        (changed(bundle=""), "no trust anchor"),
        (changed(bundle="noise"), "PEM line 1"),
        (changed(bundle="\ud800"), "malformed"),
        (changed(tainted=["A" * 64]), "tainted"),
        (changed(tainted=["a" * 63]), "tainted"),
        (changed(federated=[{"trust_domain": "x", "bundle": ""}]), "no trust anchor"),
        (
            changed(federated=[json.loads(Trust(1, AUTHORITY.bundle).format())]),
            "two bundles of one trust domain",
        ),
        (b" " * (MAX_TRUST_BYTES + 1), "more than"),
    ],
)
def test_refuses(document: bytes, message: str) -> None:
    """The message names the field."""
    with pytest.raises(InvalidTrust, match=message):
        Trust.parse(document)


def test_is_of_one_trust_domain() -> None:
    """The right authority's address with another's certificate gets nowhere."""
    require_trust_of(TRUST, TD)
    with pytest.raises(InvalidTrust, match=r"of trust domain cluster.local"):
        require_trust_of(TRUST, TrustDomain("other"))


@pytest.mark.parametrize("signer", [ISSUER, ANCHOR])
def test_names_the_tainted_signer(signer: str) -> None:
    """An issuer in the chain, or the anchor that ends it."""
    tainted = Trust(1, AUTHORITY.bundle, tainted=frozenset({signer}))
    retiring = Trust(1, AUTHORITY.bundle, retiring=frozenset({signer}))
    assert (tainted.condemns(CHAIN), tainted.retires(CHAIN)) == (signer, None)
    assert (retiring.condemns(CHAIN), retiring.retires(CHAIN)) == (None, signer)
    assert TRUST.condemns(CHAIN) is None


def test_a_chain_of_strangers_is_not_tainted() -> None:
    """It is not trusted either; that is for others to say."""
    other = Bundle.parse(TD, make_authority().bundle.pem)
    assert Trust(1, other, frozenset({ANCHOR})).condemns(CHAIN) is None
