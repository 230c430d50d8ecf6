"""How long a tunnel has been there, and whether its peer still is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.proxy.limits import ProxyLimits

# A peer that was heard from so lately is taken to be alive.
LATELY_SECONDS: Final = 1.0


@dataclass(slots=True)
class Life:
    """
    Times of one monotonic clock in seconds. `expire` is the end of the certificate
    that ends first, aware UTC.
    """

    limits: ProxyLimits
    expire: datetime
    opened_at: float
    idle_since: float
    last_heard: float

    @classmethod
    def begun(cls, limits: ProxyLimits, expire: datetime, now: float) -> Life:
        """A tunnel that opens now."""
        return cls(limits, expire, opened_at=now, idle_since=now, last_heard=now)

    def heard_lately(self, now: float) -> bool:
        """Whether the peer was there a moment ago."""
        return now - self.last_heard < LATELY_SECONDS

    def is_done(self, now: float, utc: datetime, streams: int) -> bool:
        """Whether no new stream should come: it is too old, or has had none."""
        if utc >= self.expire:
            return True
        if now - self.opened_at >= self.limits.tunnel_max_age_seconds:
            return True
        patience = 2 * self.limits.idle_tunnel_seconds  # the client's pool is first
        return not streams and now - self.idle_since > patience

    def is_dead(self, now: float, stuck_since: float | None) -> str | None:
        """Why the peer must be given up, if it must."""
        patience = self.limits.ping_timeout_seconds
        if now - self.last_heard > patience:
            return f"the peer has been silent for {now - self.last_heard:.0f} s"
        if stuck_since is not None and now - stuck_since > patience:
            return f"the peer has not read for {now - stuck_since:.0f} s"
        return None
