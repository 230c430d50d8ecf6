"""
Which other trust domains we know, and where each one's bundle comes from.

Source: SPIFFE Federation section 5: a domain has a name, a place and a profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from agent.errors import InputError
from agent.identity.spiffe import SpiffeId, TrustDomain

Profile = Literal["https_web", "https_spiffe"]


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
        url = urlsplit(self.url)
        if url.scheme != "https" or not url.hostname or "@" in url.netloc:
            return "url: expected https://HOST/PATH without a user"
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
