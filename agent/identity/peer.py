"""
Whom to believe: a peer's chain, judged by the anchors of its own trust domain.

OpenSSL verifies a chain against one store, and a server cannot know which trust
domain is about to call, so its store holds the anchors of all. That alone would let
each authority speak for every domain. Here the verified chain is tied to the domain
that its leaf names: one of that domain's own anchors must be in it, and no other
counts (SPIFFE Federation section 4.2, Trust Domain and Bundle section 3).

A judgement depends on the chain and the anchors only, so it is made once for each
chain and found again at its next handshake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.identity.bundle import Bundle
from agent.identity.certificate import (
    Finding,
    InvalidCertificate,
    PeerIdentityMismatch,
    PeerNotAccepted,
    Rule,
    Svid,
    fingerprint,
    inspect,
    parse,
)
from agent.identity.chain import Chain
from agent.identity.spiffe import TrustDomain

# Chains that are remembered, the oldest forgotten first; each has about 2 KB.
MAX_REMEMBERED: Final = 4096
# Ours have two certificates, cert-manager's under an enterprise CA four.
MAX_CHAIN: Final = 10


@dataclass(frozen=True, slots=True)
class Proof:
    """What a handshake showed of a peer: certificates (DER), its own first."""

    presented: tuple[bytes, ...]
    """As the peer sent them."""
    verified: tuple[bytes, ...]
    """As OpenSSL verified them, the anchor last."""


class Judge:
    """
    Judges peers under our own anchors and those of federated trust domains.

    Immutable but for its memory: other anchors, another judge.
    """

    def __init__(self, own: Bundle, federated: Iterable[Bundle] = ()) -> None:
        bundles = {bundle.trust_domain: bundle for bundle in federated}
        bundles[own.trust_domain] = own
        self._anchors: dict[TrustDomain, frozenset[bytes]] = {
            domain: frozenset(anchor.der for anchor in bundle.anchors)
            for domain, bundle in bundles.items()
        }
        self._remembered: dict[Proof, Chain] = {}

    def judge(self, proof: Proof) -> Chain:
        """
        Who the peer is and what it stands on, OpenSSL having verified the proof.

        Raises: PeerNotAccepted with all findings; PeerIdentityMismatch for a trust
        domain that is not ours and not federated.
        """
        chain = self._remembered.get(proof)
        if chain is None:
            chain = self._judge(proof)
            if len(self._remembered) >= MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[proof] = chain
        return chain

    def _judge(self, proof: Proof) -> Chain:
        try:
            svid = inspect(proof.presented[0])
            findings = list(_order_findings(proof.presented))
        except InvalidCertificate as error:
            raise PeerNotAccepted(*error.findings) from error
        if findings:
            raise PeerNotAccepted(*findings)
        return self._under_its_own_anchor(svid, proof.verified)

    def _under_its_own_anchor(self, svid: Svid, verified: tuple[bytes, ...]) -> Chain:
        domain = svid.spiffe_id.trust_domain
        anchors = self._anchors.get(domain)
        if anchors is None:
            known = ", ".join(sorted(map(str, self._anchors)))
            detail = f"presented {svid.spiffe_id}, expected trust domain {known}"
            raise PeerIdentityMismatch(Finding(Rule.TRUST_DOMAIN, detail))
        for at, der in enumerate(verified[1:], 1):
            if der in anchors:
                return Chain.of(verified[: at + 1])
        found = fingerprint(verified[-1])
        detail = f"{svid.spiffe_id} ends in {found}, no anchor of {domain}"
        raise PeerNotAccepted(Finding(Rule.FOREIGN_ANCHOR, detail))


def _order_findings(presented: Sequence[bytes]) -> Iterable[Finding]:
    """
    Each certificate certifies the one before it (RFC 8446 section 4.4.2).

    There it is a SHOULD, and OpenSSL finds its way through any heap of certificates.
    We ask for it: who issues chains in order loses nothing, and no attacker gets to
    choose among paths or to make us carry what proves nothing. By names only, for the
    signatures of the path in use are verified already.
    """
    if len(presented) > MAX_CHAIN:
        detail = f"{len(presented)} certificates, expected at most {MAX_CHAIN}"
        yield Finding(Rule.EXTRA_CERTIFICATE, detail)
        return
    chain = [parse(der) for der in presented]
    issuers = [each.issuer for each in chain]
    wanted = issuers[0]
    for at, each in enumerate(chain[1:], 1):
        if each.subject == wanted:
            wanted = each.issuer
            continue
        others = (
            issuers[:at] + issuers[at + 1 :]
        )  # whoever signed itself belongs nowhere
        belongs = each.subject in others and presented.count(presented[at]) == 1
        rule = Rule.CHAIN_ORDER if belongs else Rule.EXTRA_CERTIFICATE
        name = each.subject.rfc4514_string() or "without a subject"
        detail = f"certificate {at + 1}, {name}, does not certify the one before it"
        yield Finding(rule, detail)
