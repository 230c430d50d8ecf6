"""The authority signs what it was told to, and nothing that would not be accepted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.identity.authority import (
    SERVICE_NAME,
    Authority,
    CaPair,
    WrongIdentity,
    create_issuer,
)
from agent.identity.bundle import Bundle
from agent.identity.certificate import InvalidCertificate, inspect
from agent.identity.certificate import parse as parse_certificate
from agent.identity.csr import InvalidCsr, make_csr
from agent.identity.issuer_path import InvalidAuthority
from agent.identity.key import PrivateKey
from agent.identity.pem import CERTIFICATE, format_blocks
from agent.identity.spiffe import SpiffeId, TrustDomain
from tests.unit.identity.parts import (
    API,
    BATCH,
    NOW,
    TD,
    anchor_at,
    authority_under,
    certificate,
    credential_for,
    ders,
    key_usage,
    make_authority,
)

ANCHOR = anchor_at()
BUNDLE = Bundle.parse(TD, ANCHOR.certificate_pem)
ISSUER = create_issuer(TD, ANCHOR, now=NOW, serial=0xB)
AUTHORITY = make_authority()


def assemble(issuer: CaPair, bundle: Bundle = BUNDLE) -> Authority:
    return Authority.assemble(bundle, issuer.certificate_pem, issuer.key, now=NOW)


def leaf_of(chain_pem: bytes) -> x509.Certificate:
    return parse_certificate(ders(chain_pem)[0])


class TestAssemble:
    def test_refuses_an_issuer_under_no_anchor(self) -> None:
        """Nobody would trust what it signs."""
        stranger = create_issuer(TD, anchor_at(), now=NOW, serial=1)
        with pytest.raises(InvalidAuthority, match="not signed by a trust anchor"):
            assemble(stranger)

    def test_refuses_another_key(self) -> None:
        """Certificate and key come as a pair."""
        pair = CaPair(ISSUER.certificate_pem, PrivateKey.generate())
        with pytest.raises(InvalidAuthority, match="do not belong together"):
            assemble(pair)

    def test_refuses_a_workload_as_issuer(self) -> None:
        """A leaf with a good signature is still no CA."""
        leaf = credential_for(AUTHORITY, API)
        with pytest.raises(InvalidCertificate, match="not a CA"):
            assemble(CaPair(leaf.chain_pem, leaf.key), AUTHORITY.bundle)

    def test_refuses_an_empty_chain(self) -> None:
        """A file without a certificate is told apart from a broken one."""
        with pytest.raises(InvalidAuthority, match="no certificate"):
            assemble(CaPair(b"\n", ISSUER.key))

    def test_refuses_another_trust_domain(self) -> None:
        """An issuer that names its realm signs for no other."""
        other = create_issuer(TrustDomain("other"), ANCHOR, now=NOW, serial=1)
        with pytest.raises(InvalidAuthority, match="trust domain other, expected"):
            assemble(other)

    @pytest.mark.parametrize(
        ("away", "message"),
        [(timedelta(days=366), "expired"), (timedelta(minutes=-3), "not valid before")],
    )
    def test_refuses_outside_its_time(self, away: timedelta, message: str) -> None:
        """An expired issuer would make dead certificates (linkerd2#3676)."""
        with pytest.raises(InvalidAuthority, match=message):
            Authority.assemble(
                BUNDLE, ISSUER.certificate_pem, ISSUER.key, now=NOW + away
            )

    def test_takes_an_rsa_issuer(self) -> None:
        """A CA made elsewhere may have an RSA key; workloads still do not."""
        key = rsa.generate_private_key(65537, 2048)
        der = certificate(
            [], key=key, ca=True, usage=key_usage(cert_sign=True), roles=None
        )
        pair = CaPair(format_blocks([der], CERTIFICATE), PrivateKey.of(key))
        authority = assemble(pair, Bundle.of(TD, [der]))

        assert credential_for(authority, API).svid.spiffe_id == API


class TestIssue:
    def test_refuses_what_was_not_authorized(self) -> None:
        """The request's own wish is not the permit."""
        csr = make_csr(API, PrivateKey.generate())
        with pytest.raises(WrongIdentity, match=r"asks for .*/api, not .*/batch"):
            AUTHORITY.issue(csr, BATCH, now=NOW, serial=1)

    def test_refuses_another_trust_domain(self) -> None:
        """Not even when somebody authorized it."""
        foreign = SpiffeId.for_workload(TrustDomain("other"), "shop", "api")
        csr = make_csr(foreign, PrivateKey.generate())
        with pytest.raises(WrongIdentity, match=r"trust domain cluster\.local"):
            AUTHORITY.issue(csr, foreign, now=NOW, serial=1)

    def test_refuses_a_bad_request(self) -> None:
        """A CSR is checked here too, whoever looked at it before."""
        with pytest.raises(InvalidCsr):
            AUTHORITY.issue(b"", API, now=NOW, serial=1)

    def test_refuses_once_expired(self) -> None:
        """An authority that was good at start does not sign dead certificates."""
        csr = make_csr(API, PrivateKey.generate())
        with pytest.raises(InvalidAuthority, match="expired"):
            AUTHORITY.issue(csr, API, now=NOW + timedelta(days=366), serial=1)

    def test_keeps_the_profile(self) -> None:
        """What we sign, we accept: identity, serial, issuer behind the leaf."""
        credential = credential_for(AUTHORITY, API, serial=2**158)

        assert credential.svid.spiffe_id == API
        assert credential.svid.serial == 2**158
        assert credential.chain_der[1:] == ders(AUTHORITY.chain_pem)
        assert AUTHORITY.bundle.anchor_of(credential.chain_der) is not None

    def test_allows_for_skewed_clocks(self) -> None:
        """Two minutes back, 24 hours on, in whole seconds."""
        now = NOW.replace(microsecond=999_999)
        svid = credential_for(AUTHORITY, API, now=now).svid

        assert svid.not_before == NOW - timedelta(minutes=2)
        assert svid.not_after == NOW + timedelta(hours=24)

    def test_does_not_outlive_its_issuer(self) -> None:
        """In the issuer's last hour a workload gets one hour."""
        now = AUTHORITY.not_after - timedelta(hours=1)

        assert credential_for(AUTHORITY, API, now=now).svid.not_after == (
            AUTHORITY.not_after
        )

    def test_writes_the_extensions_that_others_check(self) -> None:
        """Empty subject with a critical SAN, both key identifiers, no CA."""
        leaf = leaf_of(credential_for(AUTHORITY, API).chain_pem)
        critical = {type(ext.value) for ext in leaf.extensions if ext.critical}

        assert not list(leaf.subject)
        assert critical == {
            x509.SubjectAlternativeName,
            x509.BasicConstraints,
            x509.KeyUsage,
        }
        own = leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        parent = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        issuers = AUTHORITY.issuer.extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
        assert own.value.digest != issuers.value.digest
        assert parent.value.key_identifier == issuers.value.digest

    def test_prints_no_key(self) -> None:
        """The issuer's key is not in the authority's text."""
        assert "_key" not in repr(AUTHORITY)
        assert "PrivateKey" not in repr(AUTHORITY)


class TestServerCertificate:
    def test_has_the_name_that_no_workload_gets(self) -> None:
        """A DNS name marks the identity service; requests with one are refused."""
        server = AUTHORITY.issue_server(now=NOW, serial=1)
        names = leaf_of(server.chain_pem).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        workload = leaf_of(credential_for(AUTHORITY, API).chain_pem)
        theirs = workload.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )

        assert str(server.svid.spiffe_id) == "spiffe://cluster.local/podlock/identity"
        assert names.value.get_values_for_type(x509.DNSName) == [SERVICE_NAME]
        assert theirs.value.get_values_for_type(x509.DNSName) == []


class TestHierarchy:
    def test_anchor_and_issuer_may_sign_and_no_more(self) -> None:
        """CA with path lengths 1 and 0, keyCertSign and cRLSign, years in between."""
        for pair, path_length, days in [(ANCHOR, 1, 3650), (ISSUER, 0, 365)]:
            made = leaf_of(pair.certificate_pem)
            constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
            usage = made.extensions.get_extension_for_class(x509.KeyUsage)

            assert constraints.critical
            assert usage.critical
            assert constraints.value == x509.BasicConstraints(True, path_length)
            assert (usage.value.key_cert_sign, usage.value.crl_sign) == (True, True)
            assert not usage.value.digital_signature
            assert made.not_valid_after_utc == NOW + timedelta(days=days)
            with pytest.raises(InvalidCertificate):
                inspect(made.public_bytes(serialization.Encoding.DER))

    def test_two_anchors_differ_by_name(self) -> None:
        """People, and OpenSSL's look-up by name, can tell old from new."""
        one, other = anchor_at(serial=1), anchor_at(serial=2)

        assert (
            leaf_of(one.certificate_pem).subject
            != leaf_of(other.certificate_pem).subject
        )

    def test_an_issuer_does_not_outlive_its_anchor(self) -> None:
        """In the anchor's last month, an issuer gets that month."""
        late = NOW + timedelta(days=3620)
        issuer = create_issuer(TD, ANCHOR, now=late, serial=1)

        assert leaf_of(issuer.certificate_pem).not_valid_after_utc == (
            NOW + timedelta(days=3650)
        )

    def test_the_first_expiry_counts(self) -> None:
        """The authority ends with the first certificate of its chain."""
        assert authority_under(ANCHOR).not_after == NOW + timedelta(days=365)
