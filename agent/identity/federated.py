"""
Federation, as values: which other trust domains we know, and how well.

Source: SPIFFE Federation sections 4 and 5. A domain's bundle comes from a file or from
its bundle endpoint. What was good stays in force until something newer is good; two
domains' bundles never become one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from agent.errors import InputError
from agent.identity.bundle import Bundle, InvalidBundle
from agent.identity.rotation import retry_after
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.spiffe_bundle import DEFAULT_REFRESH, SpiffeBundle, parse

Profile = Literal["https_web", "https_spiffe"]

# A hint is a hint: nobody makes us ask without end, or never again.
SHORTEST_REFRESH: Final = timedelta(seconds=10)
LONGEST_REFRESH: Final = timedelta(days=1)
# A file costs nothing to look at.
FILE_REFRESH: Final = timedelta(seconds=5)


class InvalidFederation(InputError):
    """A federated trust domain that cannot be set up as it was described."""


@dataclass(frozen=True, slots=True)
class FederatedDomain:
    """
    Where one foreign trust domain's bundle comes from.

    Raises: InvalidFederation for a description that is not exactly one of: a file, a
    URL with web authentication, a URL with SPIFFE authentication.
    """

    trust_domain: TrustDomain
    file: Path | None = None
    """PEM or a SPIFFE bundle document; also the first bundle of https_spiffe."""
    url: str | None = None
    profile: Profile = "https_web"
    endpoint_id: SpiffeId | None = None
    """Who serves the bundle, for https_spiffe."""
    web_anchors: Path | None = None
    """PEM: authorities for https_web in place of the system's."""

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise InvalidFederation(f"federation of {self.trust_domain}: {fault}")

    def _fault(self) -> str | None:
        if self.url is None:
            return self._fault_of_file()
        if not self.url.startswith("https://"):
            return "url: expected https://"
        if self.profile == "https_web":
            if self.endpoint_id or self.file:
                return "endpoint_id, file: of use with profile https_spiffe only"
            return None
        if self.endpoint_id is None:
            return "endpoint_id: expected the SPIFFE ID of who serves the bundle"
        if self.web_anchors:
            return "web_anchors: of use with profile https_web only"
        if self.file is None and self.is_self_serving:
            return "file: expected the first bundle, by which the endpoint is known"
        return None

    def _fault_of_file(self) -> str | None:
        if self.file is None:
            return "expected a file or a url"
        if self.endpoint_id or self.web_anchors or self.profile != "https_web":
            return "endpoint_id, web_anchors, profile: of use with a url only"
        return None

    @property
    def is_self_serving(self) -> bool:
        """Whether the domain's own workload serves its bundle (section 5.2.2.2)."""
        owner = self.endpoint_id and self.endpoint_id.trust_domain
        return owner == self.trust_domain

    @property
    def place(self) -> str:
        """Where the bundle is, for people."""
        return self.url or str(self.file)

    def __str__(self) -> str:
        return f"{self.trust_domain} from {self.place}"


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

    def next_look(self, jitter: float) -> timedelta:
        """
        How long to wait before looking again.

        Section 6.2: after a failure at the next interval as well, since an endpoint in
        trouble needs no more callers; but who knows nothing yet is in a hurry.
        """
        if self.domain.url is None:
            return FILE_REFRESH
        if self.known is None:
            return retry_after(max(self.failures - 1, 0), jitter)
        hint = self.known.refresh_hint
        wanted = DEFAULT_REFRESH if hint is None else hint
        return min(max(wanted, SHORTEST_REFRESH), LONGEST_REFRESH)
