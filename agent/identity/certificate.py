"""
The X.509-SVID profile: read a certificate and check that it can carry an identity.

Source: the X509-SVID standard, sections 2 to 5. Who signed it and whether it is in
time is not asked here: OpenSSL does that in the handshake, `bundle.anchor_of` for a
status document. All findings are collected, since whoever has to fix a certificate
template wants them all at once.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.errors import InputError, PeerError
from agent.identity.key import InvalidKey, workload_key
from agent.identity.spiffe import SCHEME, InvalidSpiffeId, SpiffeId, TrustDomain

# Ours have about 600 bytes. OpenSSL's own limit for a whole chain is 100 KiB.
MAX_CERTIFICATE_BYTES: Final = 16 * 1024

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class Rule(Enum):
    """
    What a certificate, or a peer's whole chain, can break; one reason for each.

    The first group is judged here, the second in `peer` and `openssl_verdict`, the
    third in `csr`, for what a request can break besides.
    """

    SIZE = "certificate is too large"
    MALFORMED = "not a well-formed X.509 certificate"
    VERSION = "not version 3"
    KEY_KIND = "public key of a kind that we do not accept"
    URI_SAN = "not exactly one URI subject alternative name"
    SPIFFE_ID = "URI is not a SPIFFE ID with a path"
    LEAF_IS_CA = "a workload's certificate is a CA"
    NOT_CA = "a signing certificate is not a CA"
    KEY_USAGE = "wrong keyUsage"
    EXTENDED_KEY_USAGE = "wrong extendedKeyUsage"

    EXPIRED = "a certificate in the chain has expired"
    NOT_YET_VALID = "a certificate in the chain is not valid yet"
    SIGNATURE = "a signature in the chain is wrong"
    SELF_SIGNED = "signed by itself, not by an authority"
    UNKNOWN_AUTHORITY = "not under any trust anchor that we have"
    WEAK_KEY = "a key in the chain is too short"
    WEAK_DIGEST = "a signature in the chain uses a broken digest"
    PATH_LENGTH = "more authorities in the chain than one of them permits"
    NAME_CONSTRAINT = "a name that an authority above may not certify"
    PURPOSE = "keyUsage or extendedKeyUsage do not allow this role"
    CRITICAL_EXTENSION = "a critical extension that we do not know"
    REVOKED = "revoked by its authority"
    CHAIN_ORDER = "the chain is out of order"
    EXTRA_CERTIFICATE = "a certificate that is not part of the chain"
    TRUST_DOMAIN = "not of a trust domain that we know"
    FOREIGN_ANCHOR = "under another trust domain's anchor"
    IDENTITY = "not the identity that we asked for"
    NOT_VERIFIED = "does not verify"

    POSSESSION = "not signed by the key that it carries"
    OTHER_NAMES = "another name than the one SPIFFE ID"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule broken, and how."""

    rule: Rule
    detail: str

    def __str__(self) -> str:
        return f"{self.rule.value}: {self.detail}"


class InvalidCertificate(InputError):
    """A certificate outside the profile; `findings` has every broken rule."""

    def __init__(self, *findings: Finding, der: bytes | None = None) -> None:
        super().__init__("certificate: " + "; ".join(map(str, findings)))
        self.findings = findings
        self.der = der
        """The certificate, for whoever read several from a file."""


class PeerNotAccepted(PeerError):
    """A peer whose certificate or chain breaks a rule; `findings` has which."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("the peer's certificate: " + "; ".join(map(str, findings)))
        self.findings = findings


class PeerIdentityMismatch(PeerNotAccepted):
    """The peer proved an identity, and it is not the one we want to talk to."""


@dataclass(frozen=True, slots=True)
class Svid:
    """What a valid workload certificate says. Times are aware UTC."""

    spiffe_id: SpiffeId
    serial: int
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """SHA-256 of the DER, lower-case hex."""
    issuer: str
    """The issuer's name, RFC 4514."""


def fingerprint(der: bytes) -> str:
    """SHA-256 in lower-case hex: a certificate's name in logs and status."""
    return hashlib.sha256(der).hexdigest()


def inspect(der: bytes) -> Svid:
    """
    Read a workload's certificate.

    Raises: InvalidCertificate with all findings.
    """
    certificate = parse(der)
    extensions = _extensions(certificate)
    findings = [
        *_version_findings(certificate),
        *_key_findings(certificate),
        *_leaf_findings(extensions),
        *_extended_key_usage_findings(extensions),
    ]
    try:
        spiffe_id = _spiffe_id(extensions)
    except InvalidCertificate as error:
        raise InvalidCertificate(*findings, *error.findings) from error
    if findings:
        raise InvalidCertificate(*findings)
    return Svid(
        spiffe_id=spiffe_id,
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=fingerprint(der),
        issuer=certificate.issuer.rfc4514_string(),
    )


def parse(der: bytes) -> x509.Certificate:
    """Any X.509 certificate. Raises: InvalidCertificate (SIZE, MALFORMED)."""
    if len(der) > MAX_CERTIFICATE_BYTES:
        detail = f"{len(der)} bytes, expected at most {MAX_CERTIFICATE_BYTES}"
        raise InvalidCertificate(Finding(Rule.SIZE, detail), der=der)
    with warnings.catch_warnings():
        # What the library still reads and will not for long (a serial number below
        # 1, say) we refuse today; a name that is merely odd passes.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        try:
            certificate = x509.load_der_x509_certificate(der)
            # Names are read late by the library; one that cannot be must fail here.
            certificate.issuer.rfc4514_string(), certificate.subject.rfc4514_string()
        except (
            ValueError,
            x509.InvalidVersion,
            CryptographyDeprecationWarning,
        ) as error:
            raise _malformed(error, der) from error
    return certificate


def require_ca(certificate: x509.Certificate) -> None:
    """
    Pass a certificate that may sign others (X509-SVID sections 4.1 and 4.3).

    Its key may be of any kind that can be read. Raises: InvalidCertificate (NOT_CA,
    KEY_KIND, KEY_USAGE, MALFORMED).
    """
    extensions = _extensions(certificate)
    findings = []
    try:
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        findings.append(Finding(Rule.KEY_KIND, str(error)))
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        findings.append(Finding(Rule.NOT_CA, "expected basicConstraints CA:TRUE"))
    usage = _find(extensions, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        findings.append(Finding(Rule.KEY_USAGE, "a CA needs keyCertSign"))
    if findings:
        raise InvalidCertificate(*findings, der=_der(certificate))


def trust_domain_of(certificate: x509.Certificate) -> TrustDomain | None:
    """
    The trust domain that a signing certificate names in its URI SAN, if it does.

    X509-SVID section 3.2 recommends `spiffe://trust-domain` there; a CA that was
    made for other purposes has none. Raises: InvalidCertificate (MALFORMED, URI_SAN),
    InvalidSpiffeId, also for one with a path, which the same section forbids.
    """
    names = _find(_extensions(certificate), x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    spiffe = [uri.removeprefix(SCHEME) for uri in uris if uri.startswith(SCHEME)]
    if len(spiffe) > 1:
        raise InvalidCertificate(
            Finding(Rule.URI_SAN, f"found {len(spiffe)} of spiffe")
        )
    return TrustDomain(spiffe[0]) if spiffe else None


def require_identity(svid: Svid, expected: SpiffeId) -> None:
    """Pass exactly the peer we meant to reach. Raises: PeerIdentityMismatch."""
    if svid.spiffe_id != expected:
        detail = f"presented {svid.spiffe_id}, expected {expected}"
        raise PeerIdentityMismatch(Finding(Rule.IDENTITY, detail))


def _malformed(error: Exception, der: bytes) -> InvalidCertificate:
    finding = Finding(Rule.MALFORMED, str(error) or repr(error))
    return InvalidCertificate(finding, der=der)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except (
        ValueError,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise _malformed(error, _der(certificate)) from error


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _version_findings(certificate: x509.Certificate) -> Iterator[Finding]:
    if certificate.version is not x509.Version.v3:
        yield Finding(Rule.VERSION, f"found {certificate.version.name}")


def _key_findings(certificate: x509.Certificate) -> Iterator[Finding]:
    try:
        workload_key(certificate.public_key())
    except (InvalidKey, ValueError, UnsupportedAlgorithm) as error:
        yield Finding(Rule.KEY_KIND, str(error))


def _leaf_findings(extensions: x509.Extensions) -> Iterator[Finding]:
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        yield Finding(Rule.LEAF_IS_CA, "expected no basicConstraints CA:TRUE")
    usage = _find(extensions, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        yield Finding(Rule.KEY_USAGE, "expected digitalSignature")
    if usage is not None and usage.key_cert_sign:
        yield Finding(Rule.KEY_USAGE, "a leaf must not have keyCertSign")
    if usage is not None and usage.crl_sign:
        yield Finding(Rule.KEY_USAGE, "a leaf must not have cRLSign")


def _extended_key_usage_findings(extensions: x509.Extensions) -> Iterator[Finding]:
    usage = _find(extensions, x509.ExtendedKeyUsage)
    if usage is None:  # X509-SVID section 4.4: it should be there, and need not
        return
    wanted = {
        "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
        "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    }
    for name, oid in wanted.items():
        if oid not in usage:
            yield Finding(Rule.EXTENDED_KEY_USAGE, f"expected {name}")


def _spiffe_id(extensions: x509.Extensions) -> SpiffeId:
    # X509-SVID section 2: exactly one URI, so that nobody reads the first while
    # somebody else reads any. DNS names beside it are allowed and mean nothing.
    names = _find(extensions, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    if len(uris) != 1:
        raise InvalidCertificate(Finding(Rule.URI_SAN, f"found {len(uris)}"))
    try:
        return SpiffeId.parse(uris[0])
    except InvalidSpiffeId as error:
        raise InvalidCertificate(Finding(Rule.SPIFFE_ID, str(error))) from error
