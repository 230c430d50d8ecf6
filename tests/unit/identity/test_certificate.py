"""A certificate carries an identity only where the X.509-SVID profile holds."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.certificate import (
    MAX_CERTIFICATE_BYTES,
    InvalidCertificate,
    PeerIdentityMismatch,
    Rule,
    fingerprint,
    inspect,
    require_ca,
    require_identity,
    trust_domain_of,
)
from agent.identity.certificate import parse as parse_certificate
from agent.identity.spiffe import InvalidSpiffeId
from tests.unit.identity.parts import (
    API,
    BATCH,
    NOW,
    TD,
    anchor_at,
    certificate,
    ders,
    key_usage,
    uri,
)

GOOD = certificate()


def rules(der: bytes) -> set[Rule]:
    with pytest.raises(InvalidCertificate) as caught:
        inspect(der)
    for finding in caught.value.findings:
        assert str(finding) in str(caught.value)
    return {finding.rule for finding in caught.value.findings}


class TestInspect:
    @pytest.mark.parametrize(
        "der", [b"", b"\x30\x03\x02\x01\x01", GOOD[:-1], GOOD + b"x"]
    )
    def test_refuses_what_is_no_certificate(self, der: bytes) -> None:
        """Truncated, extended and foreign bytes are malformed."""
        assert rules(der) == {Rule.MALFORMED}

    def test_refuses_a_serial_number_below_one(self) -> None:
        """RFC 5280 4.1.2.2; the library only warns of it."""
        positive = bytes.fromhex("a003020102020107")
        assert positive in GOOD
        for serial in (b"\x00", b"\x87"):
            damaged = GOOD.replace(positive, positive[:-1] + serial)
            assert rules(damaged) == {Rule.MALFORMED}

    def test_refuses_a_large_one_unread(self) -> None:
        """The limit comes before the parser."""
        assert rules(b"\x30" * (MAX_CERTIFICATE_BYTES + 1)) == {Rule.SIZE}

    @pytest.mark.parametrize(
        "names",
        [
            [],
            [x509.DNSName("api.shop")],
            [uri(str(API)), uri(str(BATCH))],
            [uri(str(API)), uri("https://example.org")],
        ],
    )
    def test_refuses_all_but_one_uri(self, names: list[x509.GeneralName]) -> None:
        """With two URIs, one reader could take the first and another the second."""
        assert rules(certificate(names)) == {Rule.URI_SAN}

    @pytest.mark.parametrize("text", ["https://td/a", "spiffe://td", "spiffe://td//a"])
    def test_refuses_a_uri_that_is_no_identity(self, text: str) -> None:
        """A workload has a SPIFFE ID with a path."""
        assert rules(certificate([uri(text)])) == {Rule.SPIFFE_ID}

    def test_refuses_a_ca(self) -> None:
        """Who could sign others is not a workload."""
        assert rules(certificate(ca=True)) == {Rule.LEAF_IS_CA}

    @pytest.mark.parametrize(
        "usage",
        [
            key_usage(signature=False),
            key_usage(cert_sign=True),
            key_usage(crl_sign=True),
        ],
    )
    def test_refuses_key_usage(self, usage: x509.KeyUsage) -> None:
        """digitalSignature is needed, keyCertSign and cRLSign are forbidden."""
        assert rules(certificate(usage=usage)) == {Rule.KEY_USAGE}

    @pytest.mark.parametrize(
        "role", [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    )
    def test_refuses_one_role(self, role: x509.ObjectIdentifier) -> None:
        """A workload is both a client and a server."""
        assert rules(certificate(roles=[role])) == {Rule.EXTENDED_KEY_USAGE}

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP521R1()),
        ],
    )
    def test_refuses_a_kind_of_key(
        self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    ) -> None:
        """Only P-256, P-384 and Ed25519."""
        assert rules(certificate(key=key)) == {Rule.KEY_KIND}

    def test_tells_everything_at_once(self) -> None:
        """Whoever fixes a template sees all findings in one go."""
        der = certificate(
            [],
            key=ec.generate_private_key(ec.SECP521R1()),
            ca=True,
            usage=key_usage(signature=False, cert_sign=True),
            roles=[ExtendedKeyUsageOID.CLIENT_AUTH],
        )
        assert rules(der) == {
            Rule.KEY_KIND,
            Rule.LEAF_IS_CA,
            Rule.KEY_USAGE,
            Rule.EXTENDED_KEY_USAGE,
            Rule.URI_SAN,
        }

    @pytest.mark.parametrize(
        "der",
        [
            GOOD,
            certificate(roles=None),
            certificate(ca=None),
            certificate([uri(str(API)), x509.DNSName("api.shop")]),
            certificate(key=ec.generate_private_key(ec.SECP384R1())),
            certificate(key=ed25519.Ed25519PrivateKey.generate()),
        ],
    )
    def test_reads_the_identity(self, der: bytes) -> None:
        """Without EKU or basicConstraints, with a DNS name: still one identity."""
        assert inspect(der).spiffe_id == API

    def test_reads_the_facts(self) -> None:
        """Times are aware UTC; the fingerprint is that of the DER."""
        svid = inspect(certificate(common_name="issuer"))

        assert (svid.serial, svid.issuer) == (7, "CN=issuer")
        assert (svid.not_before, svid.not_after) == (NOW, NOW + timedelta(hours=1))
        assert inspect(GOOD).fingerprint == fingerprint(GOOD)

    @given(st.data())
    def test_any_damage_is_found_or_harmless(self, data: st.DataObject) -> None:
        """One byte changed anywhere: an Svid or InvalidCertificate, nothing else."""
        position = data.draw(st.integers(0, len(GOOD) - 1))
        damaged = bytearray(GOOD)
        damaged[position] = data.draw(st.integers(0, 255))
        with contextlib.suppress(InvalidCertificate):
            inspect(bytes(damaged))

    @given(st.binary())
    def test_any_bytes_are_refused(self, der: bytes) -> None:
        """Nothing but InvalidCertificate comes out of noise."""
        with pytest.raises(InvalidCertificate):
            inspect(der)


class TestPeer:
    def test_another_identity_is_told(self) -> None:
        """The message has both identities."""
        svid = inspect(certificate([uri(str(BATCH))]))

        require_identity(svid, BATCH)
        with pytest.raises(
            PeerIdentityMismatch,
            match=r"presented spiffe://.*/sa/batch, expected spiffe://.*/sa/api",
        ):
            require_identity(svid, API)


class TestSigningCertificate:
    def test_refuses_a_leaf(self) -> None:
        """A CA says so, in both extensions."""
        with pytest.raises(InvalidCertificate) as caught:
            require_ca(parse_certificate(GOOD))
        assert {finding.rule for finding in caught.value.findings} == {
            Rule.NOT_CA,
            Rule.KEY_USAGE,
        }

    def test_names_its_trust_domain(self) -> None:
        """Ours do (X509-SVID 3.2); one made elsewhere may name none."""
        (anchor,) = ders(anchor_at().certificate_pem)

        assert trust_domain_of(parse_certificate(anchor)) == TD
        assert trust_domain_of(parse_certificate(certificate([]))) is None

    @pytest.mark.parametrize("text", ["spiffe://td/ca", "spiffe://td/", "spiffe://TD"])
    def test_refuses_another_spiffe_id(self, text: str) -> None:
        """X509-SVID 3.2: a signing certificate's SPIFFE ID has no path."""
        odd = certificate([uri(text)], ca=True, usage=key_usage(False, True))
        with pytest.raises(InvalidSpiffeId):
            trust_domain_of(parse_certificate(odd))

    def test_refuses_two_trust_domains(self) -> None:
        """Nobody shall read the one while somebody else reads the other."""
        odd = certificate([uri("spiffe://a"), uri("spiffe://b")], ca=True)
        with pytest.raises(InvalidCertificate, match="not exactly one URI"):
            trust_domain_of(parse_certificate(odd))
