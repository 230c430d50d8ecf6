"""
Certificates and chains of every kind, for a forger who holds the keys.

`Mould` describes a certificate, good unless told otherwise; `Realm` is a trust domain
with its keys; `Forged` is what a peer presents. What the forger makes of them is in
`bad_chains` and `bad_requests`.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

DOMAIN: Final = "cluster.local"
IDENTITY: Final = f"spiffe://{DOMAIN}/ns/shop/sa/api"
OTHER: Final = f"spiffe://{DOMAIN}/ns/shop/sa/batch"
BOTH_ROLES: Final = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
FOREIGN_IDENTITY: Final = "spiffe://partner.example/ns/shop/sa/api"


_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def new_key() -> ec.EllipticCurvePrivateKey:
    """P-256."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Made once: it takes a while, and nothing depends on its being new."""
    return rsa.generate_private_key(65537, bits)


def usage(*bits: str) -> x509.KeyUsage:
    """A keyUsage extension with these bits, by their names in `cryptography`."""
    return x509.KeyUsage(**{name: name in bits for name in _USAGES})


def uri(text: str) -> x509.GeneralName:
    """A URI name."""
    return x509.UniformResourceIdentifier(text)


SHOP: Final = f"spiffe://{DOMAIN}/ns/shop"
DNS: Final = x509.DNSName("api.shop")
SIGNS_TOO: Final = usage("digital_signature", "key_cert_sign")


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate with its key: what signs the next, or proves an identity."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Mould:
    """One certificate to be. The defaults make a good workload's."""

    names: tuple[x509.GeneralName, ...] = (uri(IDENTITY),)
    subject: str = ""
    starts: timedelta = timedelta(minutes=-2)
    """From now on."""
    lifetime: timedelta = timedelta(hours=1)
    ca: bool | None = False
    path_length: int | None = None
    usage: x509.KeyUsage | None = field(
        default_factory=lambda: usage("digital_signature")
    )
    roles: tuple[x509.ObjectIdentifier, ...] | None = BOTH_ROLES
    points_to_its_issuer: bool = True
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    """Further extensions, and whether each is critical."""

    def cast(self, signer: Signer | None = None, key: Key | None = None) -> Signer:
        """Signed by `signer`; by itself without one."""
        key = key or new_key()
        begin = datetime.now(UTC).replace(microsecond=0) + self.starts
        subject = name_of(self.subject)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.certificate.subject if signer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + self.lifetime)
        )
        for extension, critical in self._extensions(signer):
            builder = builder.add_extension(extension, critical)
        signed = builder.sign(signer.key if signer else key, hashes.SHA256())
        return Signer(signed, key)

    def _extensions(
        self, signer: Signer | None
    ) -> list[tuple[x509.ExtensionType, bool]]:
        found: list[tuple[x509.ExtensionType, bool]] = []
        if self.names:
            found.append((x509.SubjectAlternativeName(self.names), not self.subject))
        if self.ca is not None:
            found.append((x509.BasicConstraints(self.ca, self.path_length), True))
        if self.usage is not None:
            found.append((self.usage, True))
        if self.roles is not None:
            found.append((x509.ExtendedKeyUsage(self.roles), False))
        if signer and self.points_to_its_issuer:
            key = signer.key.public_key()
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key)
            found.append((identifier, False))
        return [*found, *self.more]


def authority(subject: str, domain: str = DOMAIN, **fields: Any) -> Mould:
    """The mould of a signing certificate."""
    mould = Mould(
        names=(uri(f"spiffe://{domain}"),),
        subject=subject,
        lifetime=timedelta(days=30),
        ca=True,
        usage=usage("key_cert_sign", "crl_sign"),
        roles=None,
    )
    return replace(mould, **fields)


@dataclass(frozen=True, slots=True)
class Realm:
    """An anchor and an issuer under it, with their keys."""

    anchor: Signer
    issuer: Signer

    @classmethod
    def create(cls, domain: str = DOMAIN) -> Realm:
        """A new one."""
        anchor = authority(f"{domain} anchor", domain).cast()
        return cls(anchor, authority(f"{domain} issuer", domain).cast(anchor))


@dataclass(frozen=True, slots=True)
class Forged:
    """What a peer presents: DER certificates, its own first, and its key."""

    chain: tuple[bytes, ...]
    key: Key

    @property
    def pem(self) -> bytes:
        """Chain and key, as OpenSSL loads them from one file."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.chain_pem + key

    @property
    def chain_pem(self) -> bytes:
        """The chain alone."""
        return b"".join(
            x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
            for der in self.chain
        )

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let `context` present it; OpenSSL wants a path, and gets that of memory."""
        with open(os.memfd_create("forged"), "wb") as memory:
            memory.write(self.pem)
            memory.flush()
            context.load_cert_chain(f"/proc/self/fd/{memory.fileno()}")


def leaf(realm: Realm, key: Key | None = None, **fields: Any) -> Forged:
    """A workload's chain in `realm`; `fields` change its certificate."""
    made = Mould(**fields).cast(realm.issuer, key)
    return Forged((made.der, realm.issuer.der), made.key)


def under(realm: Realm, issuer: Mould, key: Key | None = None, **fields: Any) -> Forged:
    """A workload's chain under another issuer of the same anchor."""
    return leaf(Realm(realm.anchor, issuer.cast(realm.anchor, key)), **fields)


def name_of(text: str) -> x509.Name:
    """A name of one common name, or of nothing."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else []
    return x509.Name(parts)
