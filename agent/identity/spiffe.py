"""
SPIFFE IDs: who a workload is, as a URI.

Source: the SPIFFE-ID standard, sections 2.1 to 2.4. We accept exactly what it
allows and keep the path's case: `spiffe://td/ns/Shop` and `spiffe://td/ns/shop` are
two workloads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent.errors import InputError

# SPIFFE-ID section 2.1: "Implementations ... MUST support SPIFFE IDs up to 2048 bytes",
# and section 2.3 lets us refuse longer ones. The trust domain has at most 255.
MAX_SPIFFE_ID_BYTES: Final = 2048
MAX_TRUST_DOMAIN_BYTES: Final = 255

SCHEME: Final = "spiffe://"
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]+", re.ASCII)
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


class InvalidSpiffeId(InputError):
    """Text that is not a SPIFFE ID, or a part that cannot be in one."""


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """The name of one authority's realm, such as `cluster.local`."""

    name: str

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.fullmatch(self.name):
            raise InvalidSpiffeId(
                f"trust domain {self.name!r}: lower case, digits, '.', '-', '_'"
            )
        if len(self.name) > MAX_TRUST_DOMAIN_BYTES:
            raise InvalidSpiffeId(
                f"trust domain: more than {MAX_TRUST_DOMAIN_BYTES} bytes"
            )

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A trust domain and a path of at least one segment."""

    trust_domain: TrustDomain
    path: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.path:
            raise InvalidSpiffeId("a workload's SPIFFE ID has a path")
        for segment in self.path:
            # Section 2.2: no empty and no dot segments, no percent-encoding.
            if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
                raise InvalidSpiffeId(f"path segment {segment!r} is not allowed")
        if len(str(self)) > MAX_SPIFFE_ID_BYTES:
            raise InvalidSpiffeId(f"SPIFFE ID: more than {MAX_SPIFFE_ID_BYTES} bytes")

    def __str__(self) -> str:
        return f"{SCHEME}{self.trust_domain}/{'/'.join(self.path)}"

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """
        Read `spiffe://trust-domain/segment/...`.

        Raises: InvalidSpiffeId for another scheme, user, port, query, fragment,
        empty or dot segments, a trailing slash, characters outside the standard.
        """
        if not text.startswith(SCHEME):
            raise InvalidSpiffeId(f"{text[:80]!r} does not start with {SCHEME}")
        name, *path = text.removeprefix(SCHEME).split("/")
        return cls(TrustDomain(name), tuple(path))

    @classmethod
    def for_workload(
        cls, trust_domain: TrustDomain, namespace: str, service_account: str
    ) -> SpiffeId:
        """The identity of every pod of one Kubernetes ServiceAccount."""
        return cls(trust_domain, ("ns", namespace, "sa", service_account))

    @property
    def namespace(self) -> str | None:
        """The Kubernetes namespace, or None where the path is not `/ns/N/sa/S`."""
        return self.path[1] if self._is_service_account else None

    @property
    def service_account(self) -> str | None:
        """The Kubernetes ServiceAccount, or None where the path is not `/ns/N/sa/S`."""
        return self.path[3] if self._is_service_account else None

    @property
    def _is_service_account(self) -> bool:
        return len(self.path) == 4 and self.path[0] == "ns" and self.path[2] == "sa"
