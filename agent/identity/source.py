"""Where certificates come from, as the renewer sees it: a service or this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from agent.errors import PodlockError, Refused
from agent.identity.key import PrivateKey
from agent.identity.report import TrustReport
from agent.identity.trust import Trust


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
    trust: Trust
    key: PrivateKey | None = field(default=None, repr=False)
    """The leaf's key, from a source that makes it itself; else it is the CSR's."""


class CertificateSource(Protocol):
    """
    Signs requests, tells whom to trust, and hears what this node does about it.

    Every method raises PodlockError and nothing else.
    """

    async def sign(self, csr_der: bytes) -> Signed:
        """Raises: IdentityUnavailable, IdentityRefused."""

    def watch(self) -> AsyncGenerator[Trust, None]:
        """
        The trust that is in force, then each change, without end.

        Close it (`contextlib.aclosing`). Changes that follow fast on one another may
        come as one. Raises: IdentityUnavailable when it breaks; wait, and call again.
        """

    async def acknowledge(self, report: TrustReport) -> None:
        """
        Tell what this node holds, presents and trusts; replaces what it told before.

        Raises: IdentityUnavailable, IdentityRefused.
        """
