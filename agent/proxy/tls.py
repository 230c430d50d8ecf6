"""
TLS contexts made from credentials, and who the peer turned out to be.

TLS 1.3 only, both sides authenticated, ALPN `h2`, no session tickets (a ticket would
outlive the certificate that earned it). Chains are checked by OpenSSL against the
bundle, with the purpose of the role; the SPIFFE ID is checked by us afterwards,
because OpenSSL knows host names and not identities.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import trio

from agent.errors import PeerError, PodlockError
from agent.identity.bundle import Bundle
from agent.identity.certificate import (
    Svid,
    inspect,
    require_identity,
    require_trust_domain,
)
from agent.identity.clock import Clock, utc_now
from agent.identity.context import load_credential
from agent.identity.credential import Credential
from agent.identity.spiffe import SpiffeId, TrustDomain

ALPN: Final = "h2"

# A handshake parses the peer's certificate; the same few peers come again and again.
inspect_cached = lru_cache(maxsize=4096)(inspect)


class NoCredential(PodlockError):
    """This node has no valid certificate for an identity (yet)."""


class NotHbone(PeerError):
    """The peer finished TLS but does not speak HTTP/2."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """Both roles of one identity, under one certificate and one bundle."""

    svid: Svid
    client: ssl.SSLContext
    server: ssl.SSLContext


def build_contexts(credential: Credential, bundle: Bundle) -> Contexts:
    """Contexts for `credential`. Raises: InvalidCredential."""
    return Contexts(
        svid=credential.svid,
        client=_context(ssl.PROTOCOL_TLS_CLIENT, credential, bundle),
        server=_without_tickets(_context(ssl.PROTOCOL_TLS_SERVER, credential, bundle)),
    )


def _without_tickets(context: ssl.SSLContext) -> ssl.SSLContext:
    context.num_tickets = 0
    return context


def _context(
    protocol: ssl._SSLMethod, credential: Credential, bundle: Bundle
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # identities are URIs; see verified_peer
    context.verify_mode = ssl.CERT_REQUIRED
    # Python asks OpenSSL to take a cut connection for one that ended in order.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols([ALPN])
    context.load_verify_locations(cadata=bundle.pem.decode("ascii"))
    load_credential(context, credential)
    return context


def verified_peer(
    tls: ssl.SSLSocket, trust_domain: TrustDomain, expected: SpiffeId | None
) -> Svid:
    """
    Who is at the other end of a finished handshake.

    `expected` is what a client demands of the server; a server takes any identity of
    its trust domain and leaves the rest to policy.

    Raises: PeerError: NotHbone, InvalidCertificate (profile), PeerIdentityMismatch.
    """
    der = tls.getpeercert(binary_form=True)
    if der is None:
        raise PeerError("the peer presented no certificate")
    svid = inspect_cached(der)
    require_trust_domain(svid, trust_domain)
    if expected is not None:
        require_identity(svid, expected)
    if tls.selected_alpn_protocol() != ALPN:
        raise NotHbone(f"{svid.spiffe_id} did not agree on HTTP/2 (ALPN {ALPN})")
    return svid


class ContextStore:
    """
    The current contexts of every identity of this node.

    A certificate that has ended is not presented: its identity has none until a new
    one comes. `clock` gives aware UTC.
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._bundle: Bundle | None = None
        self._credentials: dict[SpiffeId, Credential] = {}
        self._built: dict[SpiffeId, Contexts] = {}
        self._news = trio.Event()

    def trust(self, bundle: Bundle) -> bool:
        """
        Peers must chain to this bundle from now on.

        Returns: whether an anchor went, so that open tunnels may rest on it.
        """
        before = set(self._bundle.anchors) if self._bundle else set()
        self._bundle = bundle
        self._built.clear()
        self._announce()
        return bool(before - set(bundle.anchors))

    def install(self, credential: Credential) -> None:
        """New handshakes of this identity present this certificate from now on."""
        self._credentials[credential.svid.spiffe_id] = credential
        self._built.pop(credential.svid.spiffe_id, None)
        self._announce()

    def forget(self, identity: SpiffeId) -> None:
        """This identity has no pod here any more."""
        self._credentials.pop(identity, None)
        self._built.pop(identity, None)

    def current(self, identity: SpiffeId) -> Contexts | None:
        """The contexts of `identity`, or None without a valid certificate, a bundle."""
        built = self._built.get(identity)
        if built is None:
            credential = self._credentials.get(identity)
            if credential is None or self._bundle is None:
                return None
            built = build_contexts(credential, self._bundle)
            self._built[identity] = built
        return built if self._clock() <= built.svid.not_after else None

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
        ended = credential.svid.not_after
        return f"the certificate of {identity} ended at {ended:%Y-%m-%dT%H:%M:%SZ}"

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()
