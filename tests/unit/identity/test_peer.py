"""A chain counts under an anchor of its own trust domain, and under no other."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity import peer
from agent.identity.bundle import Bundle
from agent.identity.certificate import PeerIdentityMismatch, PeerNotAccepted, Rule
from agent.identity.certificate import fingerprint as name
from agent.identity.peer import Judge, Proof
from agent.identity.spiffe import TrustDomain
from tests.lab.forgery import FOREIGN_IDENTITY, IDENTITY, Realm, leaf, uri
from tests.unit.identity.parts import TD

PARTNER = TrustDomain("partner.example")
OURS, THEIRS = Realm.create(), Realm.create(str(PARTNER))
OWN = Bundle.of(TD, [OURS.anchor.der])
JUDGE = Judge(OWN, [Bundle.of(PARTNER, [THEIRS.anchor.der])])
GOOD = leaf(OURS).chain


def proof(presented: tuple[bytes, ...], realm: Realm) -> Proof:
    return Proof(presented, (*presented, realm.anchor.der))


def test_names_what_the_peer_stands_on() -> None:
    """Identity, issuer and anchor, for status, taint and revocation."""
    chain = JUDGE.judge(proof(GOOD, OURS))

    assert str(chain.svid.spiffe_id) == IDENTITY
    assert chain.issuer == name(OURS.issuer.der)
    assert chain.anchor == name(OURS.anchor.der)
    assert chain.der == (*GOOD, OURS.anchor.der)


def test_an_anchor_below_the_end_counts() -> None:
    """Where two anchors sign one another, the one that is ours is enough."""
    crossed = (*GOOD, OURS.anchor.der, THEIRS.anchor.der)
    assert JUDGE.judge(Proof(GOOD, crossed)).anchor == name(OURS.anchor.der)


@pytest.mark.parametrize(
    ("named", "signer"), [(FOREIGN_IDENTITY, OURS), (IDENTITY, THEIRS)]
)
def test_an_anchor_speaks_for_its_own_domain(named: str, signer: Realm) -> None:
    """OpenSSL took either; the domain in the leaf decides whose anchors count."""
    forged = leaf(signer, names=(uri(named),)).chain
    with pytest.raises(PeerNotAccepted) as caught:
        JUDGE.judge(proof(forged, signer))
    assert [each.rule for each in caught.value.findings] == [Rule.FOREIGN_ANCHOR]


def test_our_own_bundle_is_ours_to_say() -> None:
    """A federated bundle for our own domain does not replace it."""
    theirs = Bundle.of(TD, [Realm.create().anchor.der])
    judged = Judge(OWN, [theirs]).judge(proof(GOOD, OURS))
    assert str(judged.svid.spiffe_id) == IDENTITY


def test_an_unknown_domain_is_told_with_those_we_know() -> None:
    """Whoever reads it sees at once that federation is missing."""
    forged = leaf(OURS, names=(uri("spiffe://other.org/a"),)).chain
    expected = r"expected trust domain cluster\.local, partner\.example"
    with pytest.raises(PeerIdentityMismatch, match=expected):
        JUDGE.judge(proof(forged, OURS))


def test_remembers_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers with ever new certificates cannot fill the memory."""
    monkeypatch.setattr(peer, "MAX_REMEMBERED", 2)
    judge = Judge(OWN)
    proofs = [proof(leaf(OURS).chain, OURS) for _ in range(4)]
    first = [judge.judge(each) for each in proofs]

    assert judge.judge(proofs[3]) is first[3]
    assert judge.judge(proofs[0]) is not first[0]
    assert judge.judge(proofs[0]) == first[0]


@given(st.data())
def test_any_damage_is_our_error_or_harmless(data: st.DataObject) -> None:
    """Whatever is presented, nothing but PeerNotAccepted comes out."""
    der = bytearray(data.draw(st.sampled_from(GOOD)))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    rest = data.draw(st.lists(st.sampled_from([*GOOD, bytes(der)]), max_size=4))
    with contextlib.suppress(PeerNotAccepted):
        JUDGE.judge(proof((bytes(der), *rest), OURS))
