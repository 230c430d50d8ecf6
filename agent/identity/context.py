"""
The TLS contexts of a credential, and what a handshake proved.

TLS 1.3 only, both sides authenticated, ALPN `h2`. The proxy's connections and the check
of an issuer before it is adopted (`probe`) use these and no others.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from typing import Any, Final

from agent.identity.bundle import Bundle
from agent.identity.credential import Credential, InvalidCredential
from agent.identity.peer import MAX_CHAIN, Proof
from agent.openssl import limit_peer_chain

ALPN: Final = "h2"
# Ten certificates with keys of P-256 have about 6 KiB, five with RSA of 4096 bits 10.
MAX_CHAIN_BYTES: Final = 1 << 14
# `ssl` shows chains in public from Python 3.13 on; before that it keeps them private.
_ENCODING_DER: Final = 2


def mutual_context(
    protocol: ssl._SSLMethod, credential: Credential, bundles: Iterable[Bundle]
) -> ssl.SSLContext:
    """
    A context of either role that presents `credential` and demands a certificate under
    an anchor of `bundles`; `identity.peer` judges the rest. Raises: InvalidCredential.
    """
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # identities are URIs
    context.verify_mode = ssl.CERT_REQUIRED
    # An anchor is an anchor, also one that is not self-signed (RFC 5280 section 6.1).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # 112 bits and more, no SHA-1, whatever the system's own configuration says.
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    # Python asks OpenSSL to take a cut connection for one that ended in order.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols([ALPN])
    anchors = b"".join(bundle.pem for bundle in bundles)
    context.load_verify_locations(cadata=anchors.decode("ascii"))
    limit_peer_chain(context, MAX_CHAIN_BYTES, MAX_CHAIN)
    load_credential(context, credential)
    return context


def proof_of(tls: ssl.SSLSocket | ssl.SSLObject) -> Proof:
    """What a finished handshake showed of the peer."""
    inner: Any = tls._sslobj  # type: ignore[union-attr]
    presented, verified = (
        tuple(each.public_bytes(_ENCODING_DER) for each in found or ())
        for found in (inner.get_unverified_chain(), inner.get_verified_chain())
    )
    return Proof(presented, verified)


def load_credential(context: ssl.SSLContext, credential: Credential) -> None:
    """
    Make `context` present `credential` in every handshake from now on.

    Python's ssl reads keys from a path only, so the path is that of an anonymous file
    in memory (memfd), closed before this returns. Handshakes under way keep the
    credential they began with. Raises: InvalidCredential.
    """
    descriptor = os.memfd_create("podlock-credential", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as memory:
        memory.write(credential.chain_pem + credential.key.pem)
        memory.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        except (ssl.SSLError, OSError) as error:
            raise InvalidCredential(
                f"credential of {credential.svid.spiffe_id}: {error}"
            ) from error
