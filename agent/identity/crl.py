"""
Certificate revocation lists: read one, and look a verified chain up in all of them.

Source: RFC 5280 sections 5 and 6.3. A list counts for a certificate when it bears the
issuer's name and the issuer's key signed it. What cannot be judged passes, as in
ztunnel: a certificate whose issuer has no list, and one that is missing in a list
past its `nextUpdate`, which still revokes what it names (DECISIONS.md, 37).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPublicKeyTypes,
)

from agent.errors import InputError, PeerError
from agent.identity import certificate, pem

CRL: Final = "X509 CRL"
# Some 125,000 entries. All of it travels to every worker, which reads it in 100 ms.
MAX_CRL_BYTES: Final = 4 * 1024 * 1024

# What we act on, or what changes nothing for us. Any other critical extension may
# change what the list means, which must then not be used (RFC 5280 section 5.2).
_UNDERSTOOD: Final = (
    x509.AuthorityKeyIdentifier,
    x509.CRLNumber,
    x509.IssuerAlternativeName,
    x509.IssuingDistributionPoint,
)
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class InvalidCrl(InputError):
    """Bytes that are not a revocation list that we can go by."""


class CertificateRevoked(PeerError):
    """A certificate of a chain is on its issuer's revocation list."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """
    One issuer's list. Times are aware UTC. Two are equal when their DER is.

    `parse` makes it; whether its issuer signed it is asked when a chain is looked up,
    for only then is there an issuer to ask.
    """

    der: bytes = field(repr=False)
    issuer: str = field(compare=False)
    """RFC 4514, for people."""
    next_update: datetime | None = field(compare=False)
    serials: frozenset[int] = field(compare=False, repr=False)
    _crl: x509.CertificateRevocationList = field(compare=False, repr=False)

    @classmethod
    def parse(cls, der: bytes) -> RevocationList:
        """
        Read DER. Raises: InvalidCrl, also for a delta CRL and an indirect one, whose
        entries do not mean what they seem to.
        """
        if len(der) > MAX_CRL_BYTES:
            raise InvalidCrl(f"CRL: {len(der)} bytes, expected at most {MAX_CRL_BYTES}")
        try:
            crl = x509.load_der_x509_crl(der)
            _refuse_partial(crl.extensions)
            serials = frozenset(each.serial_number for each in crl)
            return cls(
                der, crl.issuer.rfc4514_string(), crl.next_update_utc, serials, crl
            )
        except _UNREADABLE as error:
            raise InvalidCrl(f"CRL: {error}") from error

    def is_outdated(self, now: datetime) -> bool:
        """Whether its issuer promised a newer one by now (RFC 5280 5.1.2.5)."""
        return self.next_update is not None and now >= self.next_update

    def is_of(self, issuer: x509.Certificate) -> bool:
        """Whether `issuer` has this name, may sign lists, and signed this one."""
        if issuer.subject != self._crl.issuer or not _may_sign_lists(issuer):
            return False
        try:
            key = cast("CertificateIssuerPublicKeyTypes", issuer.public_key())
            return self._crl.is_signature_valid(key)
        except _UNREADABLE:
            return False

    def revoked_at(self, serial: int) -> datetime:
        """When a serial number of this list was revoked."""
        entry = self._crl.get_revoked_certificate_by_serial_number(serial)
        assert entry is not None
        return entry.revocation_date_utc


def parse(data: bytes) -> tuple[RevocationList, ...]:
    """The lists of a file: one as DER, or any number as PEM. Raises: InvalidCrl."""
    if not data.lstrip().startswith(b"-----BEGIN"):
        return (RevocationList.parse(data),)
    try:
        ders = pem.parse(data, CRL)
    except pem.InvalidPem as error:
        raise InvalidCrl(f"CRL: {error}") from error
    return tuple(map(RevocationList.parse, ders))


class Revocations:
    """Lists in force. Several of one issuer add up: what any of them names is out."""

    def __init__(self, lists: Sequence[RevocationList] = ()) -> None:
        self.lists = tuple(lists)
        # A signature over a long list takes milliseconds, and one issuer signs many.
        self._signed: dict[tuple[int, bytes], bool] = {}

    def require_good(self, chain_der: Sequence[bytes]) -> None:
        """
        Pass a verified chain, leaf first and anchor last, that no list names.

        Raises: CertificateRevoked naming the certificate, its issuer and the time.
        """
        if not self.lists:
            return
        chain = [certificate.parse(der) for der in chain_der]
        for subject, issuer in pairwise(chain):
            for number, each in enumerate(self.lists):
                serial = subject.serial_number
                if serial in each.serials and self._is_of(number, issuer):
                    raise CertificateRevoked(
                        f"certificate {serial:x} of {each.issuer} was revoked "
                        f"at {each.revoked_at(serial):%Y-%m-%dT%H:%M:%SZ}"
                    )

    def unsigned_by(self, issuers: Sequence[x509.Certificate]) -> list[RevocationList]:
        """The lists that none of `issuers` signed: they revoke nothing among these."""
        return [
            each
            for number, each in enumerate(self.lists)
            if not any(self._is_of(number, issuer) for issuer in issuers)
        ]

    def _is_of(self, number: int, issuer: x509.Certificate) -> bool:
        key = number, issuer.tbs_certificate_bytes
        if key not in self._signed:
            self._signed[key] = self.lists[number].is_of(issuer)
        return self._signed[key]


def _refuse_partial(extensions: x509.Extensions) -> None:
    """Raises: InvalidCrl for a list that does not stand for itself."""
    for each in extensions:
        if each.critical and not isinstance(each.value, _UNDERSTOOD):
            name = type(each.value).__name__
            raise InvalidCrl(f"CRL: {name} ({each.oid.dotted_string}) is not supported")
        point = each.value
        if isinstance(point, x509.IssuingDistributionPoint) and point.indirect_crl:
            raise InvalidCrl("CRL: indirect, expected one of its issuer's own")


def _may_sign_lists(issuer: x509.Certificate) -> bool:
    """RFC 5280 section 6.3.3 (f): with a keyUsage, cRLSign must be in it."""
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except _UNREADABLE:
        return False
    return usage.crl_sign
