"""
How well we know a federated trust domain, as a value that only moves forward.

Source: SPIFFE Federation sections 4.2 and 6.2. What was good stays in force until
something newer is good; two domains' bundles never become one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from agent.identity.bundle import Bundle, InvalidBundle
from agent.identity.federated import FederatedDomain
from agent.identity.spiffe import TrustDomain
from agent.identity.spiffe_bundle import DEFAULT_REFRESH, SpiffeBundle, parse

# A hint is a hint: nobody makes us ask without end, or never again.
SHORTEST_REFRESH: Final = timedelta(seconds=10)
LONGEST_REFRESH: Final = timedelta(days=1)
# A file costs nothing to look at.
FILE_REFRESH: Final = timedelta(seconds=5)


def read_bundle(domain: TrustDomain, content: bytes) -> SpiffeBundle:
    """A bundle document, or PEM. Raises: InvalidBundle."""
    if content.lstrip().startswith(b"{"):
        return parse(domain, content)
    return SpiffeBundle(Bundle.parse(domain, content))


@dataclass(frozen=True, slots=True)
class Standing:
    """What we know of one federated domain now. Times are aware UTC."""

    domain: FederatedDomain
    known: SpiffeBundle | None = None
    """The last good one."""
    learned_at: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    problem: str | None = None
    """Why there is nothing newer."""

    def learned(self, told: SpiffeBundle, now: datetime) -> Standing:
        """
        After a good answer.

        Raises: InvalidBundle for one that is older than what we have: a cache on the
        way, perhaps, whose anchors may have been withdrawn since.
        """
        mine = self.known.sequence if self.known else None
        if mine is not None and told.sequence is not None and told.sequence < mine:
            raise InvalidBundle(
                f"SPIFFE bundle of {self.domain.trust_domain}: sequence "
                f"{told.sequence} is older than {mine}, which we have"
            )
        return Standing(self.domain, told, now)

    def failed(self, problem: str, now: datetime) -> Standing:
        """After a bad answer, or none: the last good bundle stays."""
        return replace(
            self,
            failures=self.failures + 1,
            failing_since=self.failing_since or now,
            problem=problem,
        )

    @property
    def refresh(self) -> timedelta:
        """
        How long to wait before looking again, after a look that came to something.

        Section 6.2 has this interval after a failure as well. That may be a day, and an
        anchor that left meanwhile would count all that time: an endpoint that failed is
        asked again soon (`agent.recovery`), by one process of a trust domain.
        """
        if self.domain.url is None or self.known is None:
            return FILE_REFRESH
        hint = self.known.refresh_hint
        wanted = DEFAULT_REFRESH if hint is None else hint
        return min(max(wanted, SHORTEST_REFRESH), LONGEST_REFRESH)
