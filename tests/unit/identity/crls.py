"""Revocation lists for the tests, made by the authority that they are about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.identity.authority import CaPair
from agent.identity.key import SigningKey, signature_hash
from tests.unit.identity.parts import NOW

DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM

Change = Callable[
    [x509.CertificateRevocationListBuilder], x509.CertificateRevocationListBuilder
]


def crl(
    issuer: CaPair,
    *serials: int,
    now: datetime = NOW,
    lifetime: timedelta = timedelta(days=1),
    key: SigningKey | None = None,
    changed: Change | None = None,
    encoding: serialization.Encoding = DER,
) -> bytes:
    """A list of `issuer` with these serial numbers; `key` signs it in its place."""
    name = x509.load_pem_x509_certificate(issuer.certificate_pem).subject
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(now)
        .next_update(now + lifetime)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
    if changed is not None:
        builder = changed(builder)
    signer = key or issuer.key.load()
    return builder.sign(signer, signature_hash(signer)).public_bytes(encoding)


def other_key() -> SigningKey:
    return ec.generate_private_key(ec.SECP256R1())
