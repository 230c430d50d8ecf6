"""
Certificate signing requests: make one for an identity, and check one from outside.

A request proves that its sender holds the key and names one identity. Nothing else
in it is copied into a certificate, so whatever could mean more is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from agent.errors import InputError
from agent.identity.key import (
    InvalidKey,
    PrivateKey,
    WorkloadPublicKey,
    signature_hash,
    workload_key,
)
from agent.identity.spiffe import InvalidSpiffeId, SpiffeId

# Ours have about 300 bytes.
MAX_CSR_BYTES: Final = 16 * 1024


class InvalidCsr(InputError):
    """A signing request that we do not sign; the message says what to change."""


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose sender holds the key."""

    spiffe_id: SpiffeId
    public_key: WorkloadPublicKey


def make_csr(spiffe_id: SpiffeId, key: PrivateKey) -> bytes:
    """
    A request (DER) for `spiffe_id`: empty subject, one critical URI SAN.

    RFC 5280 section 4.2.1.6: with an empty subject, the SAN is critical.
    """
    signing_key = key.load()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(str(spiffe_id))]
            ),
            critical=True,
        )
        .sign(signing_key, signature_hash(signing_key))
    )
    return request.public_bytes(serialization.Encoding.DER)


def check_csr(der: bytes) -> CheckedRequest:
    """
    Read a request from outside.

    Raises: InvalidCsr unless it is well formed, at most MAX_CSR_BYTES, signed by
    the key it carries, with a P-256, P-384 or Ed25519 key, exactly one URI SAN that
    is a SPIFFE ID, no other name, and no wish to be a CA.
    """
    if len(der) > MAX_CSR_BYTES:
        raise InvalidCsr(f"CSR: {len(der)} bytes, expected at most {MAX_CSR_BYTES}")
    try:
        request = x509.load_der_x509_csr(der)
        extensions = request.extensions
        key = workload_key(request.public_key())
        proven = request.is_signature_valid
    except (
        ValueError,
        InvalidKey,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise InvalidCsr(f"CSR: {error}") from error
    if not proven:
        raise InvalidCsr("CSR: not signed by the key that it carries")
    _refuse_ca(extensions)
    return CheckedRequest(_spiffe_id(extensions), key)


def _refuse_ca(extensions: x509.Extensions) -> None:
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return
    if constraints.ca:
        raise InvalidCsr("CSR: asks for basicConstraints CA:TRUE, expected none")


def _spiffe_id(extensions: x509.Extensions) -> SpiffeId:
    try:
        names = list(
            extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    except x509.ExtensionNotFound:
        names = []
    match names:
        case [x509.UniformResourceIdentifier(value=uri)]:
            try:
                return SpiffeId.parse(uri)
            except InvalidSpiffeId as error:
                raise InvalidCsr(f"CSR: {error}") from error
        case _:
            kinds = ", ".join(type(name).__name__ for name in names) or "none"
            raise InvalidCsr(f"CSR: expected one URI SAN and no other, found {kinds}")
