"""A revocation list counts for what its issuer signed, and for nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.authority import Authority, create_anchor, create_issuer
from agent.identity.bundle import Bundle
from agent.identity.chain import Chain
from agent.identity.crl import (
    MAX_CRL_BYTES,
    CertificateRevoked,
    InvalidCrl,
    RevocationList,
    Revocations,
    parse,
)
from agent.identity.key import signature_hash
from tests.unit.identity.crls import PEM, crl, other_key
from tests.unit.identity.parts import API, NOW, TD, credential_for

ANCHOR = create_anchor(TD, now=NOW, serial=0xA)
ISSUER = create_issuer(TD, ANCHOR, now=NOW, serial=0xB)
BUNDLE = Bundle.parse(TD, ANCHOR.certificate_pem)
AUTHORITY = Authority.assemble(BUNDLE, ISSUER.certificate_pem, ISSUER.key, now=NOW)
SERIAL = 0xC0FFEE
CHAIN = Chain.of_credential(credential_for(AUTHORITY, API, serial=SERIAL), BUNDLE)


def judge(*ders: bytes) -> None:
    Revocations([RevocationList.parse(der) for der in ders]).require_good(CHAIN.der)


class TestRequireGood:
    def test_a_revoked_leaf(self) -> None:
        """The reason names the certificate, the issuer and the time."""
        with pytest.raises(CertificateRevoked, match=r"c0ffee of CN=.* at 2026-03-01T"):
            judge(crl(ISSUER, 1, SERIAL, 2))

    def test_a_revoked_issuer(self) -> None:
        """The anchor's list takes an issuer out, and all under it."""
        with pytest.raises(CertificateRevoked, match="certificate b of"):
            judge(crl(ANCHOR, 0xB))

    @pytest.mark.parametrize(
        "der",
        [
            crl(ISSUER),
            crl(ISSUER, SERIAL + 1),
            crl(ANCHOR, SERIAL),  # another issuer's number
            crl(ISSUER, SERIAL, key=other_key()),
        ],
        ids=["empty", "another", "anchor's", "forged"],
    )
    def test_passes(self, der: bytes) -> None:
        """What is not named by its own issuer is good; a forged list says nothing."""
        judge(der)

    def test_no_list(self) -> None:
        """Where nothing is known about an issuer its certificates pass."""
        Revocations().require_good(CHAIN.der)

    def test_lists_add_up(self) -> None:
        """An older list beside a newer one still revokes what it names."""
        with pytest.raises(CertificateRevoked):
            judge(crl(ISSUER), crl(ISSUER, SERIAL))

    def test_an_issuer_that_may_not_sign_lists(self) -> None:
        """RFC 5280 6.3.3 (f): without cRLSign its lists do not count."""
        key = ISSUER.key.load()
        usage = x509.KeyUsage(
            False, False, False, False, False, True, False, False, False
        )
        certificate = x509.load_pem_x509_certificate(ISSUER.certificate_pem)
        builder = (
            x509.CertificateBuilder()
            .subject_name(certificate.subject)
            .issuer_name(certificate.issuer)
            .public_key(certificate.public_key())
            .serial_number(9)
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=9))
            .add_extension(usage, True)
        )
        signer = builder.sign(key, signature_hash(key))

        listed = RevocationList.parse(crl(ISSUER, SERIAL))
        assert listed.is_of(certificate)
        assert not listed.is_of(signer)

    def test_an_outdated_list_still_revokes(self) -> None:
        """Fail open for who is not on it, never for who is."""
        old = crl(ISSUER, SERIAL, lifetime=timedelta(hours=1))
        later = NOW + timedelta(hours=1)
        assert RevocationList.parse(old).is_outdated(later)
        assert not RevocationList.parse(old).is_outdated(later - timedelta(seconds=1))
        with pytest.raises(CertificateRevoked):
            judge(old)


class TestParse:
    def test_der_and_pem(self) -> None:
        """One list as DER; any number as PEM; the same either way."""
        der = crl(ISSUER, SERIAL)
        pem = crl(ANCHOR, encoding=PEM) + b"\n" + crl(ISSUER, 1, 2, encoding=PEM)
        assert [each.serials for each in parse(der)] == [{SERIAL}]
        assert [each.serials for each in parse(pem)] == [frozenset(), {1, 2}]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "CRL: "),
            (b"noise", "CRL: "),
            (crl(ISSUER)[:-1], "CRL: "),
            (crl(ISSUER, encoding=PEM)[:-30], "PEM line 1"),
            (ISSUER.certificate_pem, "expected X509 CRL, found CERTIFICATE"),
            (bytes(MAX_CRL_BYTES + 1), "expected at most"),
        ],
    )
    def test_refuses(self, data: bytes, message: str) -> None:
        """What cannot be read is an error with the reason, never an empty list."""
        with pytest.raises(InvalidCrl, match=message):
            parse(data)

    @pytest.mark.parametrize(
        ("extension", "message"),
        [
            (x509.DeltaCRLIndicator(1), "DeltaCRLIndicator"),
            (
                x509.IssuingDistributionPoint(
                    None,
                    None,
                    only_contains_user_certs=False,
                    only_contains_ca_certs=False,
                    only_some_reasons=None,
                    indirect_crl=True,
                    only_contains_attribute_certs=False,
                ),
                "indirect",
            ),
        ],
    )
    def test_refuses_a_part(self, extension: x509.ExtensionType, message: str) -> None:
        """A delta or indirect list does not say what a plain one would."""
        der = crl(ISSUER, changed=lambda made: made.add_extension(extension, True))
        with pytest.raises(InvalidCrl, match=message):
            parse(der)

    @given(st.binary(max_size=200), st.integers(0, 400))
    def test_any_bytes(self, noise: bytes, position: int) -> None:
        """Nothing but our own error, whatever the bytes."""
        whole = crl(ISSUER, 1)
        for data in (noise, whole[:position] + noise + whole[position:]):
            try:
                parse(data)
            except InvalidCrl:
                continue
