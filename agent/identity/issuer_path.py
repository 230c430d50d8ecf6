"""
The path from an issuer up to an anchor: whether it may sign workloads, and how long.

An error about one certificate of several carries it, so that whoever read them from a
file can say which one it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from agent.errors import InputError
from agent.identity import certificate
from agent.identity.bundle import Anchor, Bundle


class InvalidAuthority(InputError):
    """Issuer, key and anchors that do not make an authority, or not any more."""

    def __init__(self, message: str, der: bytes | None = None) -> None:
        super().__init__(message)
        self.der = der
        """The certificate that is at fault, where it is one."""


@dataclass(frozen=True, slots=True)
class Validity:
    """The anchor of an issuer, and when everything from it down is in time."""

    anchor: Anchor
    signers: tuple[bytes, ...]
    """The issuer, intermediates above it, and the anchor."""
    not_before: datetime
    not_after: datetime

    def require(self, now: datetime) -> None:
        """Raises: InvalidAuthority outside of it."""
        if self.not_before <= now <= self.not_after:
            return
        for der in self.signers:
            signer = certificate.parse(der)
            name = signer.subject.rfc4514_string()
            if now > signer.not_valid_after_utc:
                text = f"expired {signer.not_valid_after_utc}"
            elif now < signer.not_valid_before_utc:
                text = f"not valid before {signer.not_valid_before_utc}"
            else:
                continue
            raise InvalidAuthority(f"issuer or its anchor: {text} ({name})", der)


def check_issuer(bundle: Bundle, chain: Sequence[bytes]) -> Validity:
    """
    Check that a chain (issuer first) may sign workloads under the bundle.

    Times are returned and not judged. Raises: InvalidAuthority, InvalidCertificate.
    """
    if not chain:
        raise InvalidAuthority("issuer: no certificate")
    parsed = [certificate.parse(der) for der in chain]
    for signer in parsed:
        certificate.require_ca(signer)
    named = certificate.trust_domain_of(parsed[0])
    if named not in {None, bundle.trust_domain}:
        text = f"is for trust domain {named}, expected {bundle.trust_domain}"
        raise InvalidAuthority(f"issuer: {text}", chain[0])
    anchor = bundle.anchor_of(chain)
    if anchor is None:
        raise InvalidAuthority(
            f"issuer: not signed by a trust anchor of {bundle.trust_domain}", chain[0]
        )
    if anchor.der != chain[0]:
        _require_room_below([*chain, anchor.der])
    starts = [signer.not_valid_before_utc for signer in parsed]
    ends = [signer.not_valid_after_utc for signer in parsed]
    return Validity(
        anchor,
        (*chain, anchor.der),
        max(*starts, anchor.not_before),
        min(*ends, anchor.not_after),
    )


def without_anchors(bundle: Bundle, chain: Sequence[bytes]) -> Sequence[bytes]:
    """
    A chain (issuer first) as it follows a leaf: who trusts an anchor has it.

    Another certificate of an anchor's name and key, an earlier one say, is left out as
    well: peers build their path to the anchor, whatever dates that one has.
    """
    anchors = [certificate.parse(anchor.der) for anchor in bundle.anchors]

    def is_anchors(der: bytes) -> bool:
        found = certificate.parse(der)
        name, key = found.subject, found.public_key()
        return any((each.subject, each.public_key()) == (name, key) for each in anchors)

    return [*chain[:1], *(der for der in chain[1:] if not is_anchors(der))]


def _require_room_below(chain: Sequence[bytes]) -> None:
    """RFC 5280 section 4.2.1.9: pathlen is how many CAs may follow below."""
    for below, der in enumerate(chain):
        signer = certificate.parse(der)
        constraints = signer.extensions.get_extension_for_class(x509.BasicConstraints)
        length = constraints.value.path_length
        if length is not None and length < below:
            name = signer.subject.rfc4514_string()
            text = f"pathlen {length} of {name}: {below} CAs are below it"
            raise InvalidAuthority(f"issuer: {text}", der)
