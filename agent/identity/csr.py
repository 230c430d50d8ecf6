"""
Certificate signing requests: make one for an identity, and check one from outside.

A request proves that its sender holds the key and names one identity. Nothing else
in it is copied into a certificate, so whatever could mean more is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from agent.errors import InputError
from agent.identity.certificate import Rule
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


# Who signs with less today can sign with one of these as well.
_DIGESTS: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

# What a request can break.
RULES: Final = (
    Rule.MALFORMED,
    Rule.SIZE,
    Rule.KEY_KIND,
    Rule.WEAK_DIGEST,
    Rule.POSSESSION,
    Rule.LEAF_IS_CA,
    Rule.KEY_USAGE,
    Rule.URI_SAN,
    Rule.OTHER_NAMES,
    Rule.SPIFFE_ID,
)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class InvalidCsr(InputError):
    """A signing request that we do not sign; the message says what to change."""

    def __init__(self, message: str, rule: Rule = Rule.MALFORMED) -> None:
        super().__init__(message)
        self.rule = rule


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
    the key it carries with SHA-256 or better, with a P-256, P-384 or Ed25519 key,
    exactly one URI SAN that is a SPIFFE ID, no other name, and no wish to be a CA.
    """
    if len(der) > MAX_CSR_BYTES:
        text = f"CSR: {len(der)} bytes, expected at most {MAX_CSR_BYTES}"
        raise InvalidCsr(text, Rule.SIZE)
    request, extensions = _parse(der)
    try:
        key = workload_key(request.public_key())
        _require_proof(request)
    except InvalidKey as error:
        raise InvalidCsr(f"CSR: {error}", Rule.KEY_KIND) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidCsr(f"CSR: {error}") from error
    _refuse_ca(extensions)
    return CheckedRequest(_spiffe_id(extensions), key)


def _parse(der: bytes) -> tuple[x509.CertificateSigningRequest, x509.Extensions]:
    try:
        request = x509.load_der_x509_csr(der)
        extensions = request.extensions
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise InvalidCsr(f"CSR: {error}") from error
    return request, extensions


def _require_proof(request: x509.CertificateSigningRequest) -> None:
    digest = request.signature_hash_algorithm
    if digest is not None and not isinstance(digest, _DIGESTS):
        text = f"CSR: signed with {digest.name}, expected SHA-256 or better"
        raise InvalidCsr(text, Rule.WEAK_DIGEST)
    if not request.is_signature_valid:
        raise InvalidCsr("CSR: not signed by the key that it carries", Rule.POSSESSION)


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _refuse_ca(extensions: x509.Extensions) -> None:
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        text = "CSR: asks for basicConstraints CA:TRUE, expected none"
        raise InvalidCsr(text, Rule.LEAF_IS_CA)
    usage = _find(extensions, x509.KeyUsage)
    if usage is not None and (usage.key_cert_sign or usage.crl_sign):
        text = "CSR: asks for keyCertSign or cRLSign, expected neither"
        raise InvalidCsr(text, Rule.KEY_USAGE)


def _spiffe_id(extensions: x509.Extensions) -> SpiffeId:
    found = _find(extensions, x509.SubjectAlternativeName)
    names = list(found) if found is not None else []
    match names:
        case [x509.UniformResourceIdentifier(value=uri)]:
            try:
                return SpiffeId.parse(uri)
            except InvalidSpiffeId as error:
                raise InvalidCsr(f"CSR: {error}", Rule.SPIFFE_ID) from error
        case _:
            uris = sum(isinstance(n, x509.UniformResourceIdentifier) for n in names)
            kinds = ", ".join(type(name).__name__ for name in names) or "none"
            raise InvalidCsr(
                f"CSR: expected one URI SAN and no other, found {kinds}",
                Rule.OTHER_NAMES if uris == 1 else Rule.URI_SAN,
            )
