"""Where certificates come from, as the renewer sees it: a service or this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agent.errors import PodlockError, Refused


class IdentityUnavailable(PodlockError):
    """The identity service could not be asked or could not answer; ask again."""


class IdentityRefused(Refused):
    """
    The identity service said no, and says so again for the same request.

    `reason` is its code, such as `identity_not_on_node`. What it knows can change (a
    pod that it has not heard of yet), so a later request may succeed.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Signed:
    """An answer to a signing request."""

    chain_pem: bytes
    """The leaf, then intermediates."""
    bundle_pem: bytes


class CertificateSource(Protocol):
    """
    Signs requests and tells the trust anchors.

    Every method raises PodlockError and nothing else.
    """

    async def sign(self, csr_der: bytes) -> Signed:
        """Raises: IdentityUnavailable, IdentityRefused."""

    async def bundle(self) -> bytes:
        """The trust anchors as PEM. Raises: IdentityUnavailable."""
