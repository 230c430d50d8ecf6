"""
HTTPS to a service that can show a certificate under anchors which may change.

An agent lives longer than an anchor. Its first anchors come from a file; from then on
it judges the identity service by the trust that it is told, as it judges its peers:
an anchor that was added counts, one that has left does not, nor does what is tainted,
so that a thief of a tainted key cannot pass for the service.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx

from agent.identity.certificate import fingerprint
from agent.identity.trust import Trust

_ENCODING_DER: Final = 2

# Renewals come minutes apart: what many at once have opened is not kept.
_LIMITS: Final = httpx.Limits(max_keepalive_connections=1)


class AnchoredTransport(httpx.AsyncBaseTransport):
    """
    Connections under the anchors of now.

    What is under way when they change goes on where it is. One predecessor is kept
    for it, until the next change.
    """

    def __init__(self, anchors_pem: bytes) -> None:
        """Raises: ssl.SSLError, ValueError for text that holds no certificate."""
        context = context_for(anchors_pem)
        self._judged_by = _names(context), frozenset[str]()
        self._current = _transport(context)
        self._earlier: list[httpx.AsyncHTTPTransport] = []

    def configure(self, anchors_pem: bytes) -> None:
        """Begin anew with other anchors. Raises: as the constructor."""
        context = context_for(anchors_pem)
        self._judged_by = _names(context), frozenset()
        self._earlier.append(self._current)
        self._current = _transport(context)

    def trust(self, trust: Trust) -> bool:
        """Shake hands under this from now on; whether that is something new."""
        good = [a for a in trust.bundle.anchors if a.fingerprint not in trust.tainted]
        names = frozenset(anchor.fingerprint for anchor in good)
        judged_by = (names, trust.tainted)
        # With no anchor left there is nobody to hear of another from.
        if judged_by == self._judged_by or not good:
            return False
        self._judged_by = judged_by
        self._earlier.append(self._current)
        pem = "".join(ssl.DER_cert_to_PEM_cert(anchor.der) for anchor in good)
        self._current = _transport(context_for(pem.encode(), trust.tainted))
        return True

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As the transport of now does."""
        while len(self._earlier) > 1:
            await self._earlier.pop(0).aclose()
        return await self._current.handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        for each in (*self._earlier, self._current):
            await each.aclose()


def _transport(context: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    # Neither a proxy nor other anchors from the environment.
    return httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=_LIMITS)


def context_for(
    anchors_pem: bytes, tainted: frozenset[str] = frozenset()
) -> ssl.SSLContext:
    """A client's context. Raises: ssl.SSLError, ValueError for no certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=anchors_pem.decode("ascii"))
    context.sslobject_class = _refusing(tainted)
    return context


def _names(context: ssl.SSLContext) -> frozenset[str]:
    return frozenset(map(fingerprint, context.get_ca_certs(binary_form=True)))


def _refusing(tainted: frozenset[str]) -> type[ssl.SSLObject]:
    """OpenSSL knows no taint: the handshake asks us, before a token is sent."""

    class Untainted(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            inner: Any = self._sslobj  # type: ignore[attr-defined]
            for each in inner.get_verified_chain():
                name = fingerprint(each.public_bytes(_ENCODING_DER))
                if name in tainted:
                    raise ssl.SSLCertVerificationError(f"is under the tainted {name}")

    return Untainted
