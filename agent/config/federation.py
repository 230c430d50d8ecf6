"""
The list under `federation.domains`: a mapping for each foreign trust domain.

    - {trust_domain: partner.example, file: partner.json}
    - {trust_domain: web.example, url: "https://web.example/bundle"}
    - trust_domain: spiffe.example
      url: "https://10.0.0.7/bundle"
      profile: https_spiffe
      endpoint_id: "spiffe://spiffe.example/bundle"
      file: first.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from agent.config.settings import ConfigError
from agent.errors import InputError
from agent.identity.federated import FederatedDomain, Profile
from agent.identity.spiffe import SpiffeId, TrustDomain


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    trust_domain: str
    file: str | None = None
    url: str | None = None
    profile: Profile = "https_web"
    endpoint_id: str | None = None
    web_anchors: str | None = None

    def domain(self, base: Path) -> FederatedDomain:
        """Raises: InvalidSpiffeId, InvalidFederation."""
        return FederatedDomain(
            TrustDomain(self.trust_domain),
            file=base / self.file if self.file else None,
            url=self.url,
            profile=self.profile,
            endpoint_id=SpiffeId.parse(self.endpoint_id) if self.endpoint_id else None,
            web_anchors=base / self.web_anchors if self.web_anchors else None,
        )


def parse_domains(raw: Any, base: Path) -> tuple[FederatedDomain, ...]:
    """Paths are relative to `base`. Raises: ConfigError, naming the entry."""
    if not isinstance(raw, list):
        raise ConfigError("expected a list of mappings, in the file")
    found: dict[TrustDomain, FederatedDomain] = {}
    for number, entry in enumerate(raw, 1):
        try:
            domain = msgspec.convert(entry, _Entry).domain(base)
        except (InputError, msgspec.ValidationError) as error:
            message = str(error).replace("`", "")
            told = message[0].lower() + message[1:]
            raise ConfigError(f"entry {number}: {told}") from error
        if domain.trust_domain in found:
            raise ConfigError(f"entry {number}: {domain.trust_domain} stands twice")
        found[domain.trust_domain] = domain
    return tuple(found.values())
