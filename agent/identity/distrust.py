"""What no certificate may stand on or be, whoever signed it: tainted or revoked."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.identity.chain import Chain
from agent.identity.crl import Revocations


@dataclass(frozen=True, slots=True)
class Distrust:
    """`tainted` are the fingerprints of issuers and anchors (SHA-256 of DER, hex)."""

    tainted: frozenset[str] = frozenset()
    revocations: Revocations = field(default_factory=Revocations)

    def require_good(self, chain: Chain) -> None:
        """
        Pass a chain that nothing speaks against.

        Raises: CertificateTainted, CertificateRevoked.
        """
        chain.require_untainted(self.tainted)
        self.revocations.require_good(chain.der)
