"""What a tunnel rests on: the certificates that both ends showed in its handshake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.identity.chain import Chain
from agent.identity.distrust import Distrust
from agent.proxy.session import PeerCertificate


@dataclass(frozen=True, slots=True)
class Papers:
    """Both chains, as they were verified then. They may count for less by now."""

    ours: Chain
    theirs: Chain

    @property
    def expire(self) -> datetime:
        """The end of the certificate that ends first."""
        return min(self.ours.svid.not_after, self.theirs.svid.not_after)

    def require_good(self, distrust: Distrust) -> None:
        """Raises: CertificateTainted, CertificateRevoked."""
        distrust.require_good(self.theirs)
        distrust.require_good(self.ours)

    def told(self) -> PeerCertificate:
        """Who is at the other end, and by which of our own certificates it knows us."""
        svid = self.theirs.svid
        return PeerCertificate(
            identity=str(svid.spiffe_id),
            serial=f"{svid.serial:x}",
            not_after=svid.not_after.timestamp(),
            issued=svid.not_before.timestamp(),
            anchor=self.theirs.anchor,
            issuer=self.theirs.issuer,
            shown_serial=f"{self.ours.svid.serial:x}",
            shown_anchor=self.ours.anchor,
        )
