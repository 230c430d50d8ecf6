"""
TLS contexts made from credentials, and who the peer turned out to be.

TLS 1.3 only, both sides authenticated, ALPN `h2`, no session tickets (a ticket would
outlive the certificate that earned it). Chains are checked by OpenSSL against the
anchors, with the purpose of the role; which anchor counts for which SPIFFE ID is
judged by us afterwards (`identity.peer`), because OpenSSL knows neither identities
nor trust domains.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import trio

from agent.errors import PeerError, PodlockError
from agent.identity.bundle import Bundle
from agent.identity.certificate import Svid, require_identity
from agent.identity.chain import CertificateTainted, Chain
from agent.identity.clock import Clock, utc_now
from agent.identity.context import ALPN, mutual_context, proof_of
from agent.identity.credential import Credential
from agent.identity.crl import CertificateRevoked, Revocations
from agent.identity.distrust import Distrust
from agent.identity.peer import Judge
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust


class NoCredential(PodlockError):
    """This node has no valid certificate for an identity (yet)."""


class UnknownTrustDomain(PodlockError):
    """A peer of a trust domain is wanted whose bundle we do not have."""


class NotHbone(PeerError):
    """The peer finished TLS but does not speak HTTP/2."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """Both roles of one identity, under one certificate and one state of trust."""

    client: ssl.SSLContext
    """Takes servers of our own trust domain."""
    server: ssl.SSLContext
    """Takes clients of every trust domain that we know; `judge` tells them apart."""
    judge: Judge
    chain: Chain
    """What we present, and what it stands on."""
    credential: Credential = field(repr=False)
    federated: tuple[Bundle, ...] = ()
    _foreign: dict[TrustDomain, ssl.SSLContext] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def svid(self) -> Svid:
        """What we present."""
        return self.credential.svid

    def client_for(self, domain: TrustDomain) -> ssl.SSLContext:
        """
        A client that takes servers under that domain's anchors and no other.

        Raises: UnknownTrustDomain.
        """
        if domain == self.svid.spiffe_id.trust_domain:
            return self.client
        if domain not in self._foreign:
            bundles = [each for each in self.federated if each.trust_domain == domain]
            if not bundles:
                raise UnknownTrustDomain(f"no trust bundle of trust domain {domain}")
            context = mutual_context(ssl.PROTOCOL_TLS_CLIENT, self.credential, bundles)
            self._foreign[domain] = context
        return self._foreign[domain]


def build_contexts(
    credential: Credential,
    bundle: Bundle,
    federated: tuple[Bundle, ...] = (),
    judge: Judge | None = None,
) -> Contexts:
    """
    Contexts for `credential`, under our own bundle and those of other domains.

    Args: judge remembers peers for all identities under the same bundles.

    Raises: InvalidCredential.
    """
    everyone = (bundle, *federated)
    server = mutual_context(ssl.PROTOCOL_TLS_SERVER, credential, everyone)
    return Contexts(
        client=mutual_context(ssl.PROTOCOL_TLS_CLIENT, credential, [bundle]),
        server=_without_tickets(server),
        judge=judge or Judge(bundle, federated),
        chain=Chain.of_credential(credential, bundle),
        credential=credential,
        federated=federated,
    )


def _without_tickets(context: ssl.SSLContext) -> ssl.SSLContext:
    context.num_tickets = 0
    return context


def verified_peer(tls: ssl.SSLSocket, judge: Judge, expected: SpiffeId | None) -> Chain:
    """
    Who is at the other end of a finished handshake.

    `expected` is what a client demands of the server; a server takes any identity of
    the trust domains that it knows and leaves the rest to policy.

    Raises: PeerError: NotHbone, PeerNotAccepted, PeerIdentityMismatch.
    """
    proof = proof_of(tls)
    if not proof.presented:
        raise PeerError("the peer presented no certificate")
    peer = judge.judge(proof)
    if expected is not None:
        require_identity(peer.svid, expected)
    if tls.selected_alpn_protocol() != ALPN:
        raise NotHbone(f"{peer.svid.spiffe_id} did not agree on HTTP/2 (ALPN {ALPN})")
    return peer


class ContextStore:
    """
    The current contexts of every identity of this node.

    A certificate that has ended, or that is tainted or revoked, is not presented: its
    identity has none until a new one comes. `clock` gives aware UTC.
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._trust: Trust | None = None
        self._judge: Judge | None = None
        self.distrust = Distrust()
        self._refused: dict[SpiffeId, PeerError] = {}
        self._credentials: dict[SpiffeId, Credential] = {}
        self._built: dict[SpiffeId, Contexts] = {}
        self._news = trio.Event()

    def trust(self, trust: Trust) -> bool:
        """
        Peers are judged by this from now on, each under its own domain's anchors.

        Returns: whether an anchor went, so that open tunnels may rest on it.
        """
        before, self._trust = self._anchors(), trust
        self._judge = Judge(trust.bundle, trust.federated)
        self._built.clear()
        self._distrust(Distrust(trust.tainted, self.distrust.revocations))
        return bool(before - self._anchors())

    def _anchors(self) -> set[tuple[TrustDomain, str]]:
        trust = self._trust
        bundles = (trust.bundle, *trust.federated) if trust else ()
        return {
            (bundle.trust_domain, anchor.fingerprint)
            for bundle in bundles
            for anchor in bundle.anchors
        }

    def revoke(self, revocations: Revocations) -> None:
        """These lists are in force from now on, for peers and for ourselves."""
        self._distrust(Distrust(self.distrust.tainted, revocations))

    def _distrust(self, distrust: Distrust) -> None:
        self.distrust = distrust
        self._refused.clear()
        for identity, built in self._built.items():
            self._is_good(identity, built.chain)
        self._announce()

    def install(self, credential: Credential) -> None:
        """New handshakes of this identity present this certificate from now on."""
        self._credentials[credential.svid.spiffe_id] = credential
        self._built.pop(credential.svid.spiffe_id, None)
        self._refused.pop(credential.svid.spiffe_id, None)
        self._announce()

    def forget(self, identity: SpiffeId) -> None:
        """This identity has no pod here any more."""
        self._credentials.pop(identity, None)
        self._built.pop(identity, None)
        self._refused.pop(identity, None)

    def current(self, identity: SpiffeId) -> Contexts | None:
        """The contexts of `identity`, or None without a good certificate, a bundle."""
        if identity in self._refused:
            return None
        built = self._built.get(identity)
        if built is None:
            credential = self._credentials.get(identity)
            if credential is None or self._trust is None:
                return None
            built = build_contexts(
                credential, self._trust.bundle, self._trust.federated, self._judge
            )
            self._built[identity] = built
            if not self._is_good(identity, built.chain):
                return None
        return built if self._clock() <= built.svid.not_after else None

    def _is_good(self, identity: SpiffeId, chain: Chain) -> bool:
        """Asked once for each certificate and each change of what speaks against it."""
        try:
            self.distrust.require_good(chain)
        except (CertificateTainted, CertificateRevoked) as error:
            self._refused[identity] = error
            return False
        return True

    async def wait(self, identity: SpiffeId, timeout_seconds: float) -> Contexts:
        """
        The contexts of `identity`, as soon as there are any: a pod that starts faster
        than its certificate arrives waits instead of failing. Raises: NoCredential.
        """
        with trio.move_on_after(timeout_seconds):
            while (contexts := self.current(identity)) is None:
                await self._news.wait()
            return contexts
        raise NoCredential(self._why_none(identity, timeout_seconds))

    def _why_none(self, identity: SpiffeId, seconds: float) -> str:
        if (credential := self._credentials.get(identity)) is None:
            return f"no certificate for {identity} within {seconds:g} s"
        if identity in self._refused:
            return f"our own {self._refused[identity]}; no other within {seconds:g} s"
        ended = credential.svid.not_after
        return f"the certificate of {identity} ended at {ended:%Y-%m-%dT%H:%M:%SZ}"

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()
