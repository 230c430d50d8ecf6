"""Put a credential into an SSL context without its key touching a disk."""

from __future__ import annotations

import os
import ssl

from agent.identity.credential import Credential, InvalidCredential


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
