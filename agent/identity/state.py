"""
What an authority is, as a value: its anchors, its issuer, and what counts no more.

Every operation takes a state and returns the next one, with a version one higher, or
refuses. Keys are not in it; `statefile` reads and writes it.

    anchor   trusted --promote--> signing --promote another--> retiring --retire--> gone
    issuer   signing --rotate--> retiring --(it expires)--> forgotten
    either   --taint--> tainted: signs never again, counts nowhere
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, Self

from cryptography import x509

from agent.errors import Refused
from agent.identity import certificate, pem
from agent.identity.bundle import Anchor, Bundle
from agent.identity.issuer_path import check_issuer, without_anchors
from agent.identity.spiffe import TrustDomain
from agent.identity.trust import Trust

MIN_PREFIX: Final = 6

Kind = Literal["anchor", "issuer"]


class AuthorityRefused(Refused):
    """An operation that the authority's state does not allow; says what would."""


@dataclass(frozen=True, slots=True)
class Root:
    """
    An anchor, the version of the trust that first had it, and when that was; None for
    one that an earlier release added.
    """

    anchor: Anchor
    since: int
    added: datetime | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A signer that does not sign any more; remembered until it expires."""

    fingerprint: str
    kind: Kind
    subject: str
    not_after: datetime
    at: datetime
    """When it was marked."""


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """One authority; `issuer_pem` None where nothing can sign."""

    trust_domain: TrustDomain
    version: int
    roots: tuple[Root, ...]
    issuer_pem: bytes | None = None
    """The issuer, then intermediates."""
    retiring: tuple[Mark, ...] = ()
    tainted: tuple[Mark, ...] = ()
    request_pem: bytes | None = None
    """The CSR of an issuer that is being signed elsewhere."""
    federated: tuple[Bundle, ...] = ()

    @property
    def bundle(self) -> Bundle:
        """Every anchor that is trusted, tainted ones among them until retired."""
        anchors = tuple(root.anchor for root in self.roots)
        return Bundle(self.trust_domain, anchors)

    @property
    def trust(self) -> Trust:
        """What everyone is told."""
        return Trust(
            version=self.version,
            bundle=self.bundle,
            tainted=frozenset(mark.fingerprint for mark in self.tainted),
            federated=self.federated,
            retiring=frozenset(mark.fingerprint for mark in self.retiring),
        )

    @property
    def issuer(self) -> bytes | None:
        """The issuer's DER."""
        if self.issuer_pem is None:
            return None
        return pem.parse(self.issuer_pem, pem.CERTIFICATE)[0]

    @property
    def signing_anchor(self) -> Anchor | None:
        """The anchor of the issuer."""
        if self.issuer_pem is None:
            return None
        return self.bundle.anchor_of(pem.parse(self.issuer_pem, pem.CERTIFICATE))

    @property
    def request_key(self) -> object:
        """The public key of the issuer that is being signed elsewhere."""
        assert self.request_pem is not None
        return x509.load_pem_x509_csr(self.request_pem).public_key()

    def is_tainted(self, fingerprint: str) -> bool:
        """Whether nothing under this signer counts any more."""
        return any(mark.fingerprint == fingerprint for mark in self.tainted)

    def root(self, prefix: str) -> Root:
        """The anchor whose fingerprint starts so. Raises: AuthorityRefused."""
        known = {root.anchor.fingerprint: root for root in self.roots}
        return known[_one(prefix, known, "trust anchor")]

    def with_anchor(self, der: bytes, now: datetime) -> Self:
        """
        One more anchor, trusted by everyone and signing nothing yet.

        Raises: AuthorityRefused; InvalidBundle for what is no anchor.
        """
        (anchor,) = Bundle.of(self.trust_domain, [der]).anchors
        if anchor in self.bundle.anchors:
            raise AuthorityRefused(f"anchor {anchor.fingerprint}: is trusted already")
        if self.is_tainted(anchor.fingerprint):
            raise AuthorityRefused(f"anchor {anchor.fingerprint}: is tainted")
        if not anchor.not_before <= now <= anchor.not_after:
            raise AuthorityRefused(
                f"anchor {anchor.fingerprint}: valid from {anchor.not_before} to "
                f"{anchor.not_after}, which is not now"
            )
        root = Root(anchor, self.version + 1, now)
        return self._next(now, roots=(*self.roots, root))

    def with_issuer(self, chain_pem: bytes, now: datetime) -> Self:
        """
        Another issuer signs from now on; the one before it is retiring.

        Its anchor is the signing one from now on. Raises: InvalidAuthority,
        InvalidPem, InvalidCertificate; AuthorityRefused for a tainted signer.
        """
        chain = without_anchors(self.bundle, pem.parse(chain_pem, pem.CERTIFICATE))
        valid = check_issuer(self.bundle, chain)
        valid.require(now)
        for name in (*map(certificate.fingerprint, chain), valid.anchor.fingerprint):
            if self.is_tainted(name):
                raise AuthorityRefused(f"issuer: {name} is tainted and signs no more")
        signing = {certificate.fingerprint(chain[0]), valid.anchor.fingerprint}
        marks = (*self.retiring, *self._superseded(chain[0], valid.anchor, now))
        return self._next(
            now,
            issuer_pem=pem.format_blocks(chain, pem.CERTIFICATE),
            retiring=tuple(mark for mark in marks if mark.fingerprint not in signing),
            request_pem=None,
        )

    def without_anchor(self, fingerprint: str, now: datetime) -> Self:
        """
        Nobody trusts this anchor from now on; whether anyone needs it is not asked.

        Raises: AuthorityRefused for the last anchor and for the signing one.
        """
        root = self.root(fingerprint)
        if len(self.roots) == 1:
            raise AuthorityRefused(f"anchor {fingerprint}: is the only one")
        if root.anchor == self.signing_anchor:
            raise AuthorityRefused(
                f"anchor {fingerprint}: the issuer is under it; promote another first"
            )
        left = tuple(each for each in self.roots if each != root)
        return self._next(
            now,
            roots=left,
            retiring=tuple(
                mark for mark in self.retiring if mark.fingerprint != fingerprint
            ),
        )

    def with_taint(self, mark: Mark, now: datetime) -> Self:
        """
        Nothing under this signer counts any more, and it never signs again.

        Where the issuer itself is under it, the next state has none: one is installed
        in the same step, or nothing can be signed. Raises: AuthorityRefused where it
        is tainted already.
        """
        if self.is_tainted(mark.fingerprint):
            raise AuthorityRefused(f"{mark.fingerprint}: is tainted already")
        chain = self._issuer_chain()
        anchor = self.signing_anchor
        signers = {certificate.fingerprint(der) for der in chain}
        if anchor is not None:
            signers.add(anchor.fingerprint)
        return self._next(
            now,
            issuer_pem=None if mark.fingerprint in signers else self.issuer_pem,
            tainted=(*self.tainted, mark),
            retiring=tuple(
                each for each in self.retiring if each.fingerprint != mark.fingerprint
            ),
        )

    def with_federated(self, bundles: tuple[Bundle, ...], now: datetime) -> Self:
        """Peers of these foreign domains may be known, and of no others."""
        if bundles == self.federated:
            return self
        return self._next(now, federated=bundles)

    def with_request(self, request_pem: bytes) -> Self:
        """Waits for an issuer that is signed elsewhere; nobody is told."""
        return replace(self, request_pem=request_pem)

    def signer(self, prefix: str, now: datetime) -> Mark:
        """
        A signer that this authority knows, as what a taint would say.

        Raises: AuthorityRefused for an unknown or ambiguous fingerprint.
        """
        known = {mark.fingerprint: mark for mark in self.retiring}
        for root in self.roots:
            known[root.anchor.fingerprint] = mark_anchor(root.anchor, now)
        for der in self._issuer_chain():
            known[certificate.fingerprint(der)] = mark_issuer(der, now)
        return replace(known[_one(prefix, known, "anchor or issuer")], at=now)

    def _issuer_chain(self) -> tuple[bytes, ...]:
        return pem.parse(self.issuer_pem or b"", pem.CERTIFICATE)

    def _superseded(
        self, issuer: bytes, anchor: Anchor, now: datetime
    ) -> Iterable[Mark]:
        if self.issuer is not None and self.issuer != issuer:
            yield mark_issuer(self.issuer, now)
        if self.signing_anchor is not None and self.signing_anchor != anchor:
            yield mark_anchor(self.signing_anchor, now)

    def _next(self, now: datetime, **changes: object) -> Self:
        following: Self = replace(self, version=self.version + 1, **changes)  # type: ignore[arg-type]
        return replace(
            following,
            retiring=_unexpired(following.retiring, now),
            tainted=_unexpired(following.tainted, now),
        )


def mark_anchor(anchor: Anchor, now: datetime) -> Mark:
    """An anchor that does not sign any more."""
    return Mark(anchor.fingerprint, "anchor", anchor.subject, anchor.not_after, now)


def mark_issuer(der: bytes, now: datetime) -> Mark:
    """An issuer that does not sign any more. Raises: InvalidCertificate."""
    parsed = certificate.parse(der)
    return Mark(
        certificate.fingerprint(der),
        "issuer",
        parsed.subject.rfc4514_string(),
        parsed.not_valid_after_utc,
        now,
    )


def stands_in(anchor: Anchor, other: Anchor) -> bool:
    """Whether what chains to one chains to the other: one name, one key, two terms."""
    one, two = certificate.parse(anchor.der), certificate.parse(other.der)
    return _subject_and_key(one) == _subject_and_key(two)


def _subject_and_key(parsed: x509.Certificate) -> tuple[x509.Name, object]:
    return parsed.subject, parsed.public_key()


def _unexpired(marks: Iterable[Mark], now: datetime) -> tuple[Mark, ...]:
    # Each once; a certificate under an expired signer is refused for that alone.
    unique = {mark.fingerprint: mark for mark in marks if mark.not_after >= now}
    return tuple(unique.values())


def _one(prefix: str, known: Iterable[str], what: str) -> str:
    """The one name that starts so. Raises: AuthorityRefused, listing all."""
    names = sorted(known)
    found = [name for name in names if name.startswith(prefix.lower())]
    if len(found) == 1 and len(prefix) >= MIN_PREFIX:
        return found[0]
    listed = "; known: " + (", ".join(names) or "none")
    if len(prefix) < MIN_PREFIX:
        raise AuthorityRefused(
            f"{what} {prefix!r}: expected {MIN_PREFIX} digits or more{listed}"
        )
    why = "is ambiguous" if found else "is not known"
    raise AuthorityRefused(f"{what} {prefix}: {why}{listed}")
