"""Each operation gives the next state, or a reason that says what would do."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.identity.authority import (
    CaPair,
    create_issuer,
)
from agent.identity.bundle import Anchor, Bundle, InvalidBundle
from agent.identity.certificate import InvalidCertificate, fingerprint
from agent.identity.issuer_path import InvalidAuthority
from agent.identity.key import signature_hash
from agent.identity.spiffe import TrustDomain
from agent.identity.state import (
    AuthorityRefused,
    AuthorityState,
    Root,
    mark_anchor,
    mark_issuer,
    stands_in,
)
from agent.identity.statefile import format_state, parse_state
from tests.unit.identity.parts import (
    NOW,
    TD,
    anchor_at,
    certificate,
    ders,
    key_usage,
)

OLD, NEW = anchor_at(), anchor_at(serial=0xA2)
LATER = NOW + timedelta(hours=1)
YEAR = timedelta(days=365)


def anchor(pair: CaPair) -> Anchor:
    return Anchor.parse(ders(pair.certificate_pem)[0])


def issuer(under: CaPair, serial: int = 0xB, at: datetime = NOW) -> bytes:
    return create_issuer(TD, under, now=at, serial=serial).certificate_pem


BARE = AuthorityState(TD, 1, (Root(anchor(OLD), 1),))
ISSUER = issuer(OLD)
STATE = BARE.with_issuer(ISSUER, NOW)
BOTH = STATE.with_anchor(anchor(NEW).der, NOW)


def names(marks: object) -> list[str]:
    return [mark.fingerprint for mark in marks]  # type: ignore[attr-defined]


def test_a_rotation_from_beginning_to_end() -> None:
    """Anchor added, promoted, the old one retired: five versions, all told."""
    promoted = BOTH.with_issuer(issuer(NEW), LATER)
    assert promoted.signing_anchor == anchor(NEW)
    assert names(promoted.retiring) == [
        fingerprint(ders(ISSUER)[0]),
        anchor(OLD).fingerprint,
    ]
    assert promoted.trust.retiring == set(names(promoted.retiring))

    retired = promoted.without_anchor(anchor(OLD).fingerprint, LATER)
    assert retired.bundle.anchors == (anchor(NEW),)
    assert names(retired.retiring) == [fingerprint(ders(ISSUER)[0])]
    versions = [state.version for state in (BARE, STATE, BOTH, promoted, retired)]
    assert versions == [1, 2, 3, 4, 5]
    assert [root.since for root in BOTH.roots] == [1, 3]


def test_a_rotation_of_the_issuer_keeps_the_anchor() -> None:
    """Only the issuer retires; once it has expired nobody needs to be told."""
    rotated = STATE.with_issuer(issuer(OLD, 0xB2), LATER)
    assert names(rotated.retiring) == [fingerprint(ders(ISSUER)[0])]
    year_on = NOW + YEAR + timedelta(days=1)
    again = rotated.with_issuer(issuer(OLD, 0xB3, at=year_on), year_on)
    assert fingerprint(ders(ISSUER)[0]) not in names(again.retiring)


def test_a_promotion_can_be_taken_back() -> None:
    """What signs again is not retiring."""
    back = BOTH.with_issuer(issuer(NEW), LATER).with_issuer(ISSUER, LATER)
    assert back.signing_anchor == anchor(OLD)
    assert anchor(NEW).fingerprint in names(back.retiring)
    assert anchor(OLD).fingerprint not in names(back.retiring)
    assert fingerprint(ders(ISSUER)[0]) not in names(back.retiring)


class TestTaint:
    def test_an_issuer_signs_no_more(self) -> None:
        """The state has none; the same one does not come back."""
        mark = mark_issuer(ders(ISSUER)[0], LATER)
        tainted = STATE.with_taint(mark, LATER)
        assert tainted.issuer_pem is None
        assert tainted.trust.tainted == {mark.fingerprint}
        with pytest.raises(AuthorityRefused, match="tainted and signs no more"):
            tainted.with_issuer(ISSUER, LATER)
        assert tainted.with_issuer(issuer(OLD, 0xB2), LATER).issuer is not None

    def test_an_anchor_takes_every_issuer_with_it(self) -> None:
        """Also one that is made later."""
        tainted = BOTH.with_taint(mark_anchor(anchor(OLD), LATER), LATER)
        assert tainted.issuer_pem is None
        with pytest.raises(AuthorityRefused, match="is tainted"):
            tainted.with_issuer(issuer(OLD, 0xB2), LATER)
        recovered = tainted.with_issuer(issuer(NEW), LATER)
        gone = recovered.without_anchor(anchor(OLD).fingerprint, LATER)
        assert gone.is_tainted(anchor(OLD).fingerprint)
        with pytest.raises(AuthorityRefused, match="is tainted"):
            gone.with_anchor(anchor(OLD).der, LATER)

    def test_what_does_not_sign_leaves_the_issuer(self) -> None:
        """A leaked anchor that is not in use yet."""
        tainted = BOTH.with_taint(mark_anchor(anchor(NEW), LATER), LATER)
        assert tainted.issuer == STATE.issuer
        with pytest.raises(AuthorityRefused, match="tainted already"):
            tainted.with_taint(mark_anchor(anchor(NEW), LATER), LATER)


class TestRefused:
    def test_anchors(self) -> None:
        """Twice the same, expired, of another domain, no CA."""
        expired = anchor_at(NOW - timedelta(days=4000))
        foreign = anchor_at(td=TrustDomain("other"))
        for der, error, message in (
            (anchor(OLD).der, AuthorityRefused, "is trusted already"),
            (anchor(expired).der, AuthorityRefused, "which is not now"),
            (anchor(foreign).der, InvalidBundle, "is for trust domain other"),
            (certificate(), InvalidBundle, "CA:TRUE"),
        ):
            with pytest.raises(error, match=message):
                STATE.with_anchor(der, NOW)

    def test_retirements(self) -> None:
        """The last one, the signing one, an unknown one, a short name."""
        for state, name, message in (
            (STATE, anchor(OLD).fingerprint, "is the only one"),
            (BOTH, anchor(OLD).fingerprint, "promote another first"),
            (BOTH, "f" * 64, "is not known; known: "),
            (BOTH, "abc", "expected 6 digits or more"),
            (BOTH, "", "expected 6 digits or more"),
        ):
            with pytest.raises(AuthorityRefused, match=message):
                state.without_anchor(name, NOW)

    def test_issuers(self) -> None:
        """Each with its own reason; what signs now goes on."""
        stranger = anchor_at(serial=0xC)
        leaf = certificate(key=NEW.key.load())
        no_ca = _under(OLD, x509.BasicConstraints(False, None))
        deep = _under(OLD, x509.BasicConstraints(True, 0))
        for chain_pem, error, message in (
            (b"", InvalidAuthority, "no certificate"),
            (issuer(stranger), InvalidAuthority, "not signed by a trust anchor"),
            (issuer(OLD, at=NOW - YEAR * 2), InvalidAuthority, "expired"),
            (issuer(OLD, at=NOW + YEAR), InvalidAuthority, "not valid before"),
            (_pem(leaf), InvalidCertificate, "CA:TRUE"),
            (no_ca, InvalidCertificate, "CA:TRUE"),
            (_issued_by_issuer() + deep, InvalidAuthority, "pathlen"),
        ):
            with pytest.raises(error, match=message):
                STATE.with_issuer(chain_pem, NOW)


def test_an_anchor_renewed_with_the_same_key_stands_in() -> None:
    """Name and key are the same; what chains to the one chains to the other."""
    assert stands_in(anchor(OLD), anchor(OLD))
    assert not stands_in(anchor(OLD), anchor(NEW))


def test_the_anchor_at_a_chains_end_is_left_out() -> None:
    """Some tools add it; nobody needs it in a handshake."""
    state = BARE.with_issuer(ISSUER + OLD.certificate_pem, NOW)
    assert state.issuer_pem == STATE.issuer_pem


def test_a_signer_is_named_by_a_prefix() -> None:
    """Anchors, the issuer, and what is retiring."""
    rotated = BOTH.with_issuer(issuer(OLD, 0xB2), LATER)
    for name in (
        anchor(OLD).fingerprint,
        fingerprint(ders(ISSUER)[0]),
        fingerprint(rotated.issuer or b""),
    ):
        assert rotated.signer(name[:12].upper(), LATER).fingerprint == name
    with pytest.raises(AuthorityRefused, match="anchor or issuer ffffff"):
        rotated.signer("ffffff", LATER)


def test_reads_what_it_wrote() -> None:
    """Every field comes back."""
    foreign = Bundle.parse(
        TrustDomain("other"), anchor_at(td=TrustDomain("other")).certificate_pem
    )
    state = BOTH.with_issuer(issuer(NEW), LATER).with_taint(
        mark_anchor(anchor(OLD), LATER), LATER
    )
    state = AuthorityState(
        TD,
        9,
        state.roots,
        state.issuer_pem,
        state.retiring,
        state.tainted,
        None,
        (foreign,),
    )
    assert parse_state(format_state(state)) == state


def _pem(der: bytes) -> bytes:
    loaded = x509.load_der_x509_certificate(der)
    return loaded.public_bytes(Encoding.PEM)


INTERMEDIATE_KEY = anchor_at(serial=0xD).key


def _under(parent: CaPair, constraints: x509.BasicConstraints) -> bytes:
    """A certificate under `parent` with these constraints."""
    upper = x509.load_pem_x509_certificate(parent.certificate_pem)
    key = parent.key.load()
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "I")]))
        .issuer_name(upper.subject)
        .public_key(INTERMEDIATE_KEY.load().public_key())
        .serial_number(3)
        .not_valid_before(NOW)
        .not_valid_after(NOW + YEAR)
        .add_extension(constraints, True)
        .add_extension(key_usage(cert_sign=True), True)
        .sign(key, signature_hash(key))
    )
    return signed.public_bytes(Encoding.PEM)


def _issued_by_issuer() -> bytes:
    """An issuer under an intermediate that allows none below it."""
    parent = CaPair(_under(OLD, x509.BasicConstraints(True, 0)), INTERMEDIATE_KEY)
    return issuer(parent)
