"""What of a SPIFFE agent's answer can be used, and what is said of the rest."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.identity.bundle import InvalidBundle
from agent.identity.handed import Handed, RawSvid
from agent.identity.key import PrivateKey
from agent.identity.spiffe import TrustDomain
from tests.lab.forgery import FOREIGN_IDENTITY, IDENTITY, OTHER, Realm, leaf, uri
from tests.unit.identity.parts import API, BATCH, TD

PARTNER = TrustDomain("partner.example")
OURS, THEIRS = Realm.create(), Realm.create(str(PARTNER))
BUNDLES = {str(TD): [OURS.anchor.der], str(PARTNER): [THEIRS.anchor.der]}


def svid(name: str = IDENTITY, key: rsa.RSAPrivateKey | None = None) -> RawSvid:
    made = leaf(OURS, key, names=(uri(name),))
    return RawSvid(name, made.chain, PrivateKey.of(made.key))


def test_reads_svids_and_bundles() -> None:
    """Each identity with its key; our own bundle apart from the foreign ones."""
    handed = Handed.read(TD, [svid(), svid(OTHER)], BUNDLES)

    assert set(handed.credentials) == {API, BATCH}
    assert handed.bundle.trust_domain == TD
    assert [each.trust_domain for each in handed.federated] == [PARTNER]
    assert handed.faults == ()


def test_the_first_of_two_is_the_default() -> None:
    """Several SVIDs for one identity: the agent puts the default first."""
    first, second = svid(), svid()
    handed = Handed.read(TD, [first, second], BUNDLES)
    assert handed.credentials[API].chain_der == first.chain_der


def test_a_bad_one_takes_no_other_with_it() -> None:
    """RSA, a key that does not belong to it, no SPIFFE ID: each is told by name."""
    bad_key = RawSvid(OTHER, svid(OTHER).chain_der, PrivateKey.generate())
    odd = svid("https://example.org/")
    weak = svid(FOREIGN_IDENTITY, rsa.generate_private_key(65537, 2048))
    handed = Handed.read(TD, [bad_key, odd, weak, svid()], BUNDLES)

    assert set(handed.credentials) == {API}
    assert [fault.split(": ")[0] for fault in handed.faults] == [
        OTHER,
        "https://example.org/",
        FOREIGN_IDENTITY,
    ]


def test_a_bad_foreign_bundle_takes_no_other_with_it() -> None:
    """Its peers stay unknown; everything else works."""
    bundles = {**BUNDLES, "third.example": [b"nonsense"], "Bad": [THEIRS.anchor.der]}
    handed = Handed.read(TD, [svid()], bundles)

    assert [each.trust_domain for each in handed.federated] == [PARTNER]
    assert len(handed.faults) == 2


def test_without_our_own_bundle() -> None:
    """Nothing works without; the error tells what there is."""
    bundles = {str(PARTNER): [THEIRS.anchor.der]}
    with pytest.raises(InvalidBundle, match=r"trust domains: partner\.example"):
        Handed.read(TD, [svid()], bundles)
