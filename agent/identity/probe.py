"""
Whether peers would accept what an issuer signs, before it signs anything.

A certificate of the candidate is presented in both roles of a TLS handshake in memory,
under the contexts and the judge that a peer has. So what a peer rejects (purpose,
extensions, key sizes, path, order of the chain) is found here, by the same code. Times
are not asked: the caller has checked them, by its own clock.
"""

from __future__ import annotations

import ssl
from typing import Final

from agent.errors import InputError, PeerError
from agent.identity.bundle import Bundle
from agent.identity.context import mutual_context, proof_of
from agent.identity.credential import Credential, InvalidCredential
from agent.identity.openssl_verdict import verdict
from agent.identity.peer import Judge

# X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which `ssl` does not name.
_NO_CHECK_TIME: Final = 0x200000
# A handshake takes two turns of each side.
_MOST_TURNS: Final = 10


class Unacceptable(InputError):
    """No peer would take what this issuer signs."""


def require_acceptable(credential: Credential, bundle: Bundle) -> None:
    """
    Pass a credential that peers which trust `bundle` accept, in both roles.

    Raises: Unacceptable, with the reason that a peer would give.
    """
    try:
        client = _endpoint(ssl.PROTOCOL_TLS_CLIENT, credential, bundle)
        server = _endpoint(ssl.PROTOCOL_TLS_SERVER, credential, bundle)
        _shake_hands(client, server)
        for side in (client, server):
            Judge(bundle).judge(proof_of(side.tls))
    except ssl.SSLCertVerificationError as error:
        finding = verdict(error.verify_code, error.verify_message)
        raise _unacceptable(str(finding)) from error
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise _unacceptable(reason) from error
    except (PeerError, InvalidCredential) as error:
        raise _unacceptable(str(error)) from error


def _unacceptable(reason: str) -> Unacceptable:
    return Unacceptable(f"issuer: peers would refuse what it signs: {reason}")


class _Endpoint:
    """One side, with the bytes that it wrote and the other has not read."""

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self.received, self.sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.received, self.sent, server_side=server)
        self.done = False

    def turn(self) -> None:
        """Raises: ssl.SSLError."""
        if not self.done:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                return
            self.done = True


def _endpoint(
    protocol: ssl._SSLMethod, credential: Credential, bundle: Bundle
) -> _Endpoint:
    context = mutual_context(protocol, credential, [bundle])
    context.verify_flags |= _NO_CHECK_TIME
    return _Endpoint(context, server=protocol is ssl.PROTOCOL_TLS_SERVER)


def _shake_hands(client: _Endpoint, server: _Endpoint) -> None:
    for _ in range(_MOST_TURNS):
        for side, other in ((client, server), (server, client)):
            side.turn()
            other.received.write(side.sent.read())
        if client.done and server.done:
            return
    raise _unacceptable("the handshake does not come to an end")
