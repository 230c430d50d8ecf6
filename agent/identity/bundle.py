"""
Bundles: the trust anchors of one trust domain, as a set.

An anchor is its DER. A trailing newline, another order or a second copy in a PEM
file is no other bundle, so comparing two tells whether trust really changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from agent.errors import InputError
from agent.identity import certificate, pem
from agent.identity.certificate import InvalidCertificate
from agent.identity.spiffe import InvalidSpiffeId, TrustDomain


class InvalidBundle(InputError):
    """Text that is not a set of trust anchors for the trust domain."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A self-made root of trust. Times are aware UTC."""

    fingerprint: str
    """SHA-256 of the DER, lower-case hex."""
    subject: str = field(compare=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    der: bytes = field(compare=False, repr=False)

    @classmethod
    def parse(cls, der: bytes) -> Anchor:
        """Raises: InvalidCertificate unless `der` is a CA's certificate."""
        parsed = certificate.parse(der)
        certificate.require_ca(parsed)
        return cls(
            fingerprint=certificate.fingerprint(der),
            subject=parsed.subject.rfc4514_string(),
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            der=der,
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """
    At least one anchor, each once, ordered by fingerprint.

    Raises: InvalidBundle for no anchors.
    """

    trust_domain: TrustDomain
    anchors: tuple[Anchor, ...]

    def __post_init__(self) -> None:
        if not self.anchors:
            raise InvalidBundle(f"bundle of {self.trust_domain}: no trust anchor")
        unique = {anchor.fingerprint: anchor for anchor in self.anchors}
        ordered = tuple(unique[name] for name in sorted(unique))
        object.__setattr__(self, "anchors", ordered)

    @classmethod
    def of(cls, trust_domain: TrustDomain, ders: Iterable[bytes]) -> Bundle:
        """
        A bundle of DER certificates.

        Raises: InvalidBundle for one that is not a CA or names another trust
        domain, and for none at all.
        """
        anchors = []
        for number, der in enumerate(ders, 1):
            where = f"bundle of {trust_domain}, certificate {number}"
            try:
                anchors.append(Anchor.parse(der))
                named = certificate.trust_domain_of(certificate.parse(der))
            except (InvalidCertificate, InvalidSpiffeId) as error:
                raise InvalidBundle(f"{where}: {error}") from error
            if named not in {None, trust_domain}:
                raise InvalidBundle(f"{where}: is for trust domain {named}")
        return cls(trust_domain, tuple(anchors))

    @classmethod
    def parse(cls, trust_domain: TrustDomain, text: bytes) -> Bundle:
        """
        Read concatenated PEM certificates.

        Raises: InvalidBundle, also for text between the blocks.
        """
        try:
            ders = pem.parse(text, pem.CERTIFICATE)
        except pem.InvalidPem as error:
            raise InvalidBundle(f"bundle of {trust_domain}: {error}") from error
        return cls.of(trust_domain, ders)

    @property
    def pem(self) -> bytes:
        """The anchors as PEM: equal bundles give equal bytes."""
        ders = (anchor.der for anchor in self.anchors)
        return pem.format_blocks(ders, pem.CERTIFICATE)

    def anchor_of(self, chain_der: Sequence[bytes]) -> Anchor | None:
        """
        The anchor that signed the end of a chain (leaf first), None for none.

        Names and signatures are checked along the way, times and constraints are
        not. Raises: InvalidCertificate for a certificate that cannot be read.
        """
        for position, der in enumerate(chain_der):
            subject = certificate.parse(der)
            for anchor in self.anchors:
                if _issued(certificate.parse(anchor.der), subject):
                    return anchor
            follows = chain_der[position + 1 : position + 2]
            if not all(_issued(certificate.parse(der), subject) for der in follows):
                return None
        return None


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
