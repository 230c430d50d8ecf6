"""
The certificate authority: signs workloads' certificates, and nothing else.

    trust anchor (10 years) -> identity issuer (1 year) -> workload (24 hours)

The issuer may also come from elsewhere (cert-manager, an enterprise CA) with
intermediates above it. Serial numbers are arguments: whoever calls draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import Refused
from agent.identity import certificate, pem
from agent.identity.bundle import Bundle
from agent.identity.credential import Credential
from agent.identity.csr import check_csr
from agent.identity.issuer_path import (
    InvalidAuthority,
    Validity,
    check_issuer,
    without_anchors,
)
from agent.identity.key import (
    PrivateKey,
    SigningKey,
    WorkloadPublicKey,
    signature_hash,
    workload_key,
)
from agent.identity.spiffe import SCHEME, SpiffeId, TrustDomain

ANCHOR_LIFETIME: Final = timedelta(days=3650)
ISSUER_LIFETIME: Final = timedelta(days=365)
WORKLOAD_LIFETIME: Final = timedelta(hours=24)
# Nodes' clocks differ; Istio takes the same two minutes.
BACKDATE: Final = timedelta(minutes=2)

# The service's own server certificate has a DNS name, which no workload's has: a
# workload cannot pass for the identity service.
SERVICE_NAME: Final = "identity.podlock.internal"
SERVICE_PATH: Final = ("podlock", "identity")
RESERVED_SEGMENT: Final = "podlock"


class WrongIdentity(Refused):
    """A request for another identity than the one that was authorized."""


@dataclass(frozen=True, slots=True)
class CaPair:
    """A signing certificate and its key."""

    certificate_pem: bytes
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuer that chains to the bundle. `assemble` makes it and checks it."""

    trust_domain: TrustDomain
    bundle: Bundle
    issuer: x509.Certificate
    chain_pem: bytes
    """The issuer, then intermediates, as they follow a leaf."""
    validity: Validity
    lifetime: timedelta
    _key: SigningKey = field(repr=False)

    @classmethod
    def assemble(
        cls,
        bundle: Bundle,
        issuer_pem: bytes,
        issuer_key: PrivateKey,
        *,
        now: datetime | None = None,
        lifetime: timedelta = WORKLOAD_LIFETIME,
    ) -> Authority:
        """
        Check that the parts fit together, and at `now` where that is given; whether
        they are in time is asked again for each certificate.

        Args: issuer_pem has the issuer first, then intermediates if there are any.
        Raises: InvalidAuthority; InvalidPem, InvalidKey and InvalidCertificate for
        parts that cannot be read.
        """
        chain = without_anchors(bundle, pem.parse(issuer_pem, pem.CERTIFICATE))
        validity = check_issuer(bundle, chain)
        issuer = certificate.parse(chain[0])
        key = issuer_key.load()
        if issuer.public_key() != key.public_key():
            raise InvalidAuthority("issuer: certificate and key do not belong together")
        if now is not None:
            validity.require(now)
        return cls(
            trust_domain=bundle.trust_domain,
            bundle=bundle,
            issuer=issuer,
            chain_pem=pem.format_blocks(chain, pem.CERTIFICATE),
            validity=validity,
            lifetime=lifetime,
            _key=key,
        )

    @property
    def not_after(self) -> datetime:
        """When issuer, intermediates or anchor end, whichever is first."""
        return self.validity.not_after

    def require_valid(self, now: datetime) -> None:
        """
        Refuse to sign what nobody would accept.

        Raises: InvalidAuthority outside the validity of issuer and anchor.
        """
        self.validity.require(now)

    def issue(
        self, csr_der: bytes, authorized: SpiffeId, *, now: datetime, serial: int
    ) -> bytes:
        """
        Sign a workload's request; returns the chain (PEM): leaf, then issuer.

        Args: authorized is what the caller may have; serial is between 1 and
        2**159 (RFC 5280 section 4.1.2.2). Raises: InvalidCsr, WrongIdentity,
        InvalidAuthority (expired).
        """
        request = check_csr(csr_der)
        if request.spiffe_id != authorized:
            raise WrongIdentity(f"CSR asks for {request.spiffe_id}, not {authorized}")
        if authorized.trust_domain != self.trust_domain:
            raise WrongIdentity(
                f"{authorized}: not of trust domain {self.trust_domain}"
            )
        names = [x509.UniformResourceIdentifier(str(authorized))]
        return self._sign(request.public_key, names, now, serial)

    def issue_server(self, *, now: datetime, serial: int) -> Credential:
        """The identity service's own credential, with a new key."""
        key = PrivateKey.generate()
        spiffe_id = SpiffeId(self.trust_domain, SERVICE_PATH)
        names = [
            x509.UniformResourceIdentifier(str(spiffe_id)),
            x509.DNSName(SERVICE_NAME),
        ]
        public_key = workload_key(key.load().public_key())
        return Credential.assemble(self._sign(public_key, names, now, serial), key)

    def _sign(
        self,
        public_key: WorkloadPublicKey,
        names: Sequence[x509.GeneralName],
        now: datetime,
        serial: int,
    ) -> bytes:
        self.require_valid(now)
        now = now.replace(microsecond=0)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.subject)
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(now - BACKDATE)
            # A leaf that outlives its issuer would fail before its own time is up.
            .not_valid_after(min(now + self.lifetime, self.not_after))
            # RFC 5280 section 4.2.1.6: with an empty subject, the SAN is critical.
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(_BOTH_ROLES, critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
            )
            .add_extension(
                _authority_key_identifier(self.issuer, self._key), critical=False
            )
            .sign(self._key, signature_hash(self._key))
        )
        return leaf.public_bytes(serialization.Encoding.PEM) + self.chain_pem


def create_anchor(
    trust_domain: TrustDomain,
    *,
    now: datetime,
    serial: int,
    lifetime: timedelta = ANCHOR_LIFETIME,
) -> CaPair:
    """A new self-signed trust anchor (P-256) that may sign issuers."""
    key = PrivateKey.generate()
    name = _name("trust anchor", serial)
    builder = _ca(trust_domain, name, key.load(), serial, path_length=1)
    return _signed(builder, name, key, now, lifetime, signer=key)


def create_issuer(
    trust_domain: TrustDomain,
    anchor: CaPair,
    *,
    now: datetime,
    serial: int,
    lifetime: timedelta = ISSUER_LIFETIME,
) -> CaPair:
    """A new identity issuer (P-256) under `anchor` that may sign workloads."""
    (anchor_der,) = pem.parse(anchor.certificate_pem, pem.CERTIFICATE)
    parent = certificate.parse(anchor_der)
    key = PrivateKey.generate()
    name = _name("identity issuer", serial)
    builder = _ca(trust_domain, name, key.load(), serial, path_length=0)
    identifier = _authority_key_identifier(parent, anchor.key.load())
    builder = builder.add_extension(identifier, critical=False)
    lifetime = min(lifetime, parent.not_valid_after_utc - now)
    return _signed(builder, parent.subject, key, now, lifetime, signer=anchor.key)


def request_issuer(trust_domain: TrustDomain, key: PrivateKey) -> bytes:
    """
    A request (PEM) for an identity issuer, to be signed where the anchor's key is.

    It asks for what `create_issuer` gives: CA, pathlen 0, keyCertSign and cRLSign.
    """
    uri = x509.UniformResourceIdentifier(f"{SCHEME}{trust_domain}")
    signing_key = key.load()
    serial = x509.random_serial_number()  # for a name of its own, not a serial
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name("identity issuer", serial))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(signing_key, signature_hash(signing_key))
    )
    return request.public_bytes(serialization.Encoding.PEM)


_BOTH_ROLES: Final = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(
    issuer: x509.Certificate, key: SigningKey
) -> x509.AuthorityKeyIdentifier:
    kind = x509.AuthorityKeyIdentifier
    try:
        found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return kind.from_issuer_public_key(key.public_key())
    return kind.from_issuer_subject_key_identifier(found.value)


def _name(role: str, serial: int) -> x509.Name:
    # Part of the serial makes two anchors differ by name, for people and for OpenSSL.
    # The trust domain (up to 255 bytes) does not fit a common name (64).
    text = f"podlock {role} {serial:08x}"[:40]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _ca(
    trust_domain: TrustDomain,
    name: x509.Name,
    key: SigningKey,
    serial: int,
    path_length: int,
) -> x509.CertificateBuilder:
    uri = x509.UniformResourceIdentifier(f"{SCHEME}{trust_domain}")
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(public_key)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(True, path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False
        )
        # X509-SVID section 3.2: a signing certificate names its trust domain.
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder,
    issuer: x509.Name,
    key: PrivateKey,
    now: datetime,
    lifetime: timedelta,
    signer: PrivateKey,
) -> CaPair:
    now = now.replace(microsecond=0)
    signing_key = signer.load()
    signed = (
        builder.issuer_name(issuer)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + lifetime)
        .sign(signing_key, signature_hash(signing_key))
    )
    return CaPair(signed.public_bytes(serialization.Encoding.PEM), key)
