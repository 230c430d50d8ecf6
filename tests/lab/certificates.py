"""
Certificates for an attacker: by the lab's own authority, or by one of his own.

Podlock's code issues none of these. They follow the X.509-SVID profile, so that what
refuses them is the reason under test and not a missing extension.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class Credential:
    """Files that `ssl.SSLContext.load_cert_chain` takes."""

    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority that will sign whatever it is asked to."""

    certificates: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def foreign(cls, name: str) -> Self:
        """A new authority, unknown to everybody."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), timedelta(days=1))
        certificate = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        ).add_extension(_key_usage(sign_certificates=True), critical=True)
        return cls((certificate.sign(key, hashes.SHA256()),), key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """A real authority, from its PEM files: what a thief would have."""
        loaded = load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key}: expected an elliptic curve key")
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        return cls(tuple(chain), loaded)

    def issue(
        self,
        directory: Path,
        identity: str,
        lifetime: timedelta = timedelta(hours=1),
        *,
        starts: datetime | None = None,
    ) -> Credential:
        """Write a chain and a key for a SPIFFE ID into `directory`."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificates[0]
        builder = _builder(
            x509.Name([]), issuer.subject, key.public_key(), lifetime, starts
        )
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.key.public_key()
        )
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        leaf = (
            builder.add_extension(names, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _write(directory, (leaf, *self.certificates), key)

    def revoke(self, *serials: int) -> bytes:
        """A revocation list with these serial numbers, as PEM."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificates[0].subject)
            .last_update(now)
            .next_update(now + timedelta(days=1))
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial)
            entry = entry.revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
    starts: datetime | None = None,
) -> x509.CertificateBuilder:
    begin = starts or datetime.now(UTC) - timedelta(minutes=2)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    directory: Path,
    chain: tuple[x509.Certificate, ...],
    key: ec.EllipticCurvePrivateKey,
) -> Credential:
    directory.mkdir(parents=True, exist_ok=True)
    credential = Credential(directory / "chain.pem", directory / "key.pem")
    credential.chain.write_bytes(
        b"".join(each.public_bytes(Encoding.PEM) for each in chain)
    )
    credential.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return credential
