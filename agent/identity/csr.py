"""
Certificate signing requests: make one for an identity, and check one from outside.

A request proves that its sender holds the key and names one identity. Nothing else
in it is copied into a certificate, so whatever could mean more is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from agent.errors import InputError
from agent.identity.key import (
    InvalidKey,
    PrivateKey,
    WorkloadPublicKey,
    signature_hash,
    workload_key,
)
from agent.identity.spiffe import InvalidSpiffeId, SpiffeId

_STRONG: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

# Ours have about 300 bytes.
MAX_CSR_BYTES: Final = 16 * 1024


class CsrFault(Enum):
    """What is wrong with a request; the value is what the caller is told."""

    MALFORMED = "csr_malformed"
    SIZE = "csr_too_large"
    KEY_KIND = "csr_key_kind"
    WEAK_SIGNATURE = "csr_weak_signature"
    NOT_PROVEN = "csr_not_signed_by_its_key"
    ASKS_FOR_CA = "csr_asks_for_ca"
    NAMES = "csr_names"
    SPIFFE_ID = "csr_spiffe_id"


class InvalidCsr(InputError):
    """A signing request that we do not sign; the message says what to change."""

    def __init__(self, fault: CsrFault, message: str) -> None:
        super().__init__(f"CSR: {message}")
        self.fault = fault


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
        message = f"{len(der)} bytes, expected at most {MAX_CSR_BYTES}"
        raise InvalidCsr(CsrFault.SIZE, message)
    try:
        request = x509.load_der_x509_csr(der)
        extensions = request.extensions
        key = workload_key(request.public_key())
        _require_proof(request)
    except InvalidKey as error:
        raise InvalidCsr(CsrFault.KEY_KIND, str(error)) from error
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise InvalidCsr(CsrFault.MALFORMED, str(error)) from error
    _refuse_ca(extensions)
    return CheckedRequest(_spiffe_id(extensions), key)


def _require_proof(request: x509.CertificateSigningRequest) -> None:
    # The digest first: a broken one is not even verified by every OpenSSL.
    digest = request.signature_hash_algorithm
    if digest is not None and not isinstance(digest, _STRONG):
        message = f"signed with {digest.name}, expected SHA-256 or longer"
        raise InvalidCsr(CsrFault.WEAK_SIGNATURE, message)
    if not request.is_signature_valid:
        raise InvalidCsr(CsrFault.NOT_PROVEN, "not signed by the key that it carries")


def _refuse_ca(extensions: x509.Extensions) -> None:
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                what = "basicConstraints CA:TRUE"
            case x509.KeyUsage(key_cert_sign=True):
                what = "keyUsage keyCertSign"
            case x509.KeyUsage(crl_sign=True):
                what = "keyUsage cRLSign"
            case _:
                continue
        raise InvalidCsr(CsrFault.ASKS_FOR_CA, f"asks for {what}, expected none")


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
                raise InvalidCsr(CsrFault.SPIFFE_ID, str(error)) from error
        case _:
            kinds = ", ".join(type(name).__name__ for name in names) or "none"
            message = f"expected one URI SAN and no other, found {kinds}"
            raise InvalidCsr(CsrFault.NAMES, message)
