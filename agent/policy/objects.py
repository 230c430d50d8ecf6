"""
What the policy kinds of both families have in common, as manifests spell it.

Unknown fields are errors at every level: a misspelt field of a policy is a rule that
somebody believes in and nobody applies.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from agent.addresses import IPNetwork

# RFC 1123 labels, as Kubernetes takes them; RFC 6335 section 5.1 for port names.
_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
DnsLabel = Annotated[str, msgspec.Meta(pattern=rf"^{_LABEL}\Z", max_length=63)]
DnsSubdomain = Annotated[
    str, msgspec.Meta(pattern=rf"^{_LABEL}(?:\.{_LABEL})*\Z", max_length=253)
]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
PortName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(?=.*[a-z])(?!.*--)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?\Z", max_length=15
    ),
]


class Strict(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
):
    """A part of a policy object; see the module for why it takes no other field."""


class PolicyMetadata(Strict, frozen=True, kw_only=True):
    """Kubernetes' ObjectMeta, whole, since unknown fields are refused."""

    name: DnsSubdomain
    namespace: DnsLabel = "default"
    creation_timestamp: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    generate_name: str = ""
    self_link: str = ""
    deletion_timestamp: str = ""
    deletion_grace_period_seconds: int = 0
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[Any, ...] = ()
    managed_fields: tuple[Any, ...] = ()


class PolicyObject(Strict, frozen=True, kw_only=True):
    """What every policy object has around its `spec`."""

    api_version: str
    kind: str
    metadata: PolicyMetadata
    status: Any = None

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def title(self) -> str:
        """How refusals and problems name it: "Server shop/api-http"."""
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def age(self) -> tuple[bool, str, str, str]:
        """Sorts the oldest first; those of unknown age last; then by name."""
        created = self.metadata.creation_timestamp
        return (not created, created, self.namespace, self.name)


@lru_cache(16_384)  # a policy's networks are read at the door, and again for its rules
def parse_network(text: str) -> IPNetwork:
    """
    Read `10.0.0.0/8` or a single address; host bits are cut off, as Linkerd does.

    Raises: ValueError, also for IPv4-mapped networks: sources are plain IPv4.
    """
    slash, prefix = text.partition("/")[1:]
    if slash and not (prefix.isascii() and prefix.isdigit()):
        raise ValueError(f"{text!r} is not a network like 10.0.0.0/8")
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network like 10.0.0.0/8") from error
    address = network.network_address
    mapped = isinstance(address, ipaddress.IPv6Address) and (
        address.ipv4_mapped or address.scope_id
    )
    if mapped:
        raise ValueError(f"{text!r}: write IPv4 as 10.0.0.0/8, and no zone index")
    return network


def host_bits(text: str) -> IPNetwork | None:
    """The network that `text` means, where it has bits set beyond its prefix."""
    if "/" not in text:
        return None
    network, written = parse_network(text), text.partition("/")[0]
    if written == str(network.network_address):
        return None
    return None if ipaddress.ip_address(written) == network.network_address else network
