"""
Trust: what an authority wants its domain's certificates judged by.

It travels as one JSON document, in an answer or as a line of a stream, so that
anchors, taints and foreign domains change together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from agent.errors import InputError
from agent.identity.bundle import Bundle
from agent.identity.certificate import fingerprint
from agent.identity.spiffe import TrustDomain

MAX_TRUST_BYTES: Final = 4 * 1024 * 1024
MAX_FEDERATED: Final = 256
MAX_TAINTED: Final = 1024

# All that msgspec raises for bytes that are not the wanted JSON.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Fingerprint = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class InvalidTrust(InputError):
    """Bytes that are not a trust document, or one of another trust domain."""


@dataclass(frozen=True, slots=True)
class Trust:
    """
    One authority's word on which certificates count.

    Fingerprints are SHA-256 of the DER, lower-case hex, of anchors and of issuers.
    """

    version: int
    """Grows with each change; equal version, equal content, of one authority."""
    bundle: Bundle
    """Every anchor to accept."""
    tainted: frozenset[str] = frozenset()
    """Nothing under these counts any more; it is issued again at once."""
    federated: tuple[Bundle, ...] = ()
    """One bundle for each foreign trust domain."""
    retiring: frozenset[str] = frozenset()
    """
    These sign no more. What is under them is valid, and is to be issued again within
    seconds or minutes, so that they can go.
    """

    @classmethod
    def parse(cls, document: bytes) -> Trust:
        """Read a trust document. Raises: InvalidTrust."""
        if len(document) > MAX_TRUST_BYTES:
            raise InvalidTrust(f"trust: more than {MAX_TRUST_BYTES} bytes")
        try:
            return msgspec.json.decode(document, type=TrustDocument).trust()
        except UNREADABLE as error:
            raise InvalidTrust(f"trust: {error}") from error

    def format(self) -> bytes:
        """The trust document; one line."""
        return msgspec.json.encode(TrustDocument.of(self))

    def condemns(self, chain_der: Sequence[bytes]) -> str | None:
        """
        The tainted signer of a chain (leaf first), by fingerprint; None for none.

        Raises: InvalidCertificate for a chain that cannot be read.
        """
        return self._signer_in(self.tainted, chain_der)

    def retires(self, chain_der: Sequence[bytes]) -> str | None:
        """The retiring signer of a chain, as `condemns` has it for tainted ones."""
        return self._signer_in(self.retiring, chain_der)

    def _signer_in(self, names: frozenset[str], chain: Sequence[bytes]) -> str | None:
        if not names:
            return None
        for name in map(fingerprint, chain[1:]):
            if name in names:
                return name
        anchor = self.bundle.anchor_of(chain)
        found = anchor is not None and anchor.fingerprint in names
        return anchor.fingerprint if anchor and found else None


def require_trust_of(trust: Trust, expected: TrustDomain) -> None:
    """Pass the trust of our own authority. Raises: InvalidTrust."""
    if trust.bundle.trust_domain != expected:
        raise InvalidTrust(
            f"trust: of trust domain {trust.bundle.trust_domain}, expected {expected}"
        )


class BundleDocument(msgspec.Struct, frozen=True):
    """A bundle in JSON."""

    trust_domain: str
    bundle: str
    """PEM."""

    @classmethod
    def of(cls, bundle: Bundle) -> BundleDocument:
        """The document of a bundle."""
        return cls(str(bundle.trust_domain), bundle.pem.decode())

    def parsed(self) -> Bundle:
        """Raises: InvalidTrust."""
        try:
            return Bundle.parse(TrustDomain(self.trust_domain), self.bundle.encode())
        except (InputError, UnicodeEncodeError) as error:
            raise InvalidTrust(f"trust: {error}") from error


class TrustDocument(msgspec.Struct, frozen=True):
    """A trust in JSON; in an answer it is a part of a larger document."""

    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    trust_domain: str
    bundle: str
    tainted: Annotated[list[Fingerprint], msgspec.Meta(max_length=MAX_TAINTED)] = []
    retiring: Annotated[list[Fingerprint], msgspec.Meta(max_length=MAX_TAINTED)] = []
    federated: Annotated[
        list[BundleDocument], msgspec.Meta(max_length=MAX_FEDERATED)
    ] = []

    @classmethod
    def of(cls, trust: Trust) -> TrustDocument:
        """The document of a trust."""
        return cls(
            version=trust.version,
            trust_domain=str(trust.bundle.trust_domain),
            bundle=trust.bundle.pem.decode(),
            tainted=sorted(trust.tainted),
            retiring=sorted(trust.retiring),
            federated=[BundleDocument.of(bundle) for bundle in trust.federated],
        )

    def trust(self) -> Trust:
        """Raises: InvalidTrust, also for two bundles of one domain."""
        own = BundleDocument(self.trust_domain, self.bundle).parsed()
        federated = tuple(document.parsed() for document in self.federated)
        domains = [bundle.trust_domain for bundle in (own, *federated)]
        if len(set(domains)) < len(domains):
            raise InvalidTrust("trust: federated: two bundles of one trust domain")
        return Trust(
            version=self.version,
            bundle=own,
            tainted=frozenset(self.tainted),
            federated=federated,
            retiring=frozenset(self.retiring),
        )
