"""
Inbound policy of one workload, compiled: what `decision.authorize` judges by.

Values only, and picklable: the control process compiles them, the proxy workers
hold them. Nothing here knows of the manifests they came from, except their names,
which every refusal repeats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from agent.addresses import IPAddress, IPNetwork, unmapped
from agent.errors import InputError
from agent.identity.spiffe import SCHEME, InvalidSpiffeId, SpiffeId

# Linkerd names a workload by DNS: SA.NS.serviceaccount.identity.CONTROL.TRUST-DOMAIN.
# We have no control plane's namespace; policies written for Linkerd say "linkerd".
DNS_FORM_INFIX: Final = "serviceaccount.identity.linkerd"

_DNS_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*", re.ASCII)
_NAMESPACE: Final = re.compile(_DNS_LABEL, re.ASCII)


class InvalidIdentityMatch(InputError):
    """Text that is not an identity, `*` or `*.suffix`."""


class DefaultPolicy(Enum):
    """What holds where no authorization decides (Linkerd's six values)."""

    ALL_UNAUTHENTICATED = "all-unauthenticated"
    CLUSTER_UNAUTHENTICATED = "cluster-unauthenticated"
    ALL_AUTHENTICATED = "all-authenticated"
    CLUSTER_AUTHENTICATED = "cluster-authenticated"
    DENY = "deny"
    AUDIT = "audit"


def dns_name(namespace: str, service_account: str, trust_domain: str) -> str:
    """A ServiceAccount's identity in Linkerd's DNS form."""
    return f"{service_account}.{namespace}.{DNS_FORM_INFIX}.{trust_domain}"


def dns_form(identity: SpiffeId) -> str | None:
    """
    `identity` in DNS form, or None where it has none.

    A namespace with a dot, which SPIFFE allows and Kubernetes does not, has none:
    its last label would pass for the namespace of another workload.
    """
    namespace, account = identity.namespace, identity.service_account
    if namespace is None or account is None:
        return None
    if not _NAMESPACE.fullmatch(namespace) or not _DNS_NAME.fullmatch(account):
        return None
    return dns_name(namespace, account, str(identity.trust_domain))


class IdentityForm(Enum):
    """What an `IdentityMatch` compares."""

    ANY = "any"
    EXACT = "exact"
    SUFFIX = "suffix"


@dataclass(frozen=True, slots=True)
class IdentityMatch:
    """
    Some authenticated identities: any, one, or those under a DNS suffix.

    `text` is as written; a suffix matches DNS forms only, never a SPIFFE URI, and
    only whole labels: `*.shop.serviceaccount...` is not `*.workshop...`.
    """

    form: IdentityForm
    text: str

    @classmethod
    def parse(cls, text: str) -> IdentityMatch:
        """
        Read `*`, `*.suffix`, a SPIFFE ID or a DNS-form identity.

        Raises: InvalidIdentityMatch, also for `spiffe://td/ns/*`: Linkerd matches
        SPIFFE IDs exactly or not at all.
        """
        if text == "*":
            return cls(IdentityForm.ANY, text)
        if text.startswith("*.") and _DNS_NAME.fullmatch(text[2:]):
            return cls(IdentityForm.SUFFIX, text)
        if text.startswith(SCHEME):
            try:
                return cls(IdentityForm.EXACT, str(SpiffeId.parse(text)))
            except InvalidSpiffeId as error:
                raise InvalidIdentityMatch(
                    f"identity {text[:80]!r}: {error}"
                ) from error
        if _DNS_NAME.fullmatch(text):
            return cls(IdentityForm.EXACT, text)
        raise InvalidIdentityMatch(
            f"identity {text[:80]!r}: expected '*', '*.suffix', a SPIFFE ID or a "
            f"lower-case name like web.shop.{DNS_FORM_INFIX}.cluster.local"
        )

    def matches(self, identity: SpiffeId) -> bool:
        """Whether an authenticated `identity` is one of these."""
        return self._matches_names(str(identity), dns_form(identity))

    def covers(self, other: IdentityMatch) -> bool:
        """Whether this matches everything that `other` matches."""
        if self.form is IdentityForm.ANY or other.form is IdentityForm.ANY:
            return self.form is IdentityForm.ANY
        if other.form is IdentityForm.SUFFIX:
            inside = other.text[1:].endswith(self.text[1:])
            return self.form is IdentityForm.SUFFIX and inside
        if other.text.startswith(SCHEME):
            return self.matches(SpiffeId.parse(other.text))
        if self.text.startswith(SCHEME):
            return dns_form(SpiffeId.parse(self.text)) == other.text
        return self._matches_names(other.text, other.text)

    def _matches_names(self, exact: str, dns: str | None) -> bool:
        if self.form is IdentityForm.ANY:
            return True
        if self.form is IdentityForm.EXACT:
            return self.text in (exact, dns)
        return dns is not None and dns.endswith(self.text[1:])


@dataclass(frozen=True, slots=True)
class NetworkMatch:
    """The addresses of `cidr` that are in none of `excluded`."""

    cidr: IPNetwork
    excluded: tuple[IPNetwork, ...] = ()

    def matches(self, source: IPAddress) -> bool:
        """Whether `source` is one of these; families never match each other."""
        source = unmapped(source)
        return source in self.cidr and not any(source in net for net in self.excluded)


@dataclass(frozen=True, slots=True)
class Authorization:
    """
    Admits who is one of `identities` and comes from one of `networks`.

    None demands nothing: without `identities` plaintext is admitted. An empty
    tuple is a demand that nobody meets.
    """

    name: str
    identities: tuple[IdentityMatch, ...] | None = None
    networks: tuple[NetworkMatch, ...] | None = None

    def admits_identity(self, identity: SpiffeId | None) -> bool:
        """Whether `identity` (None: plaintext) is enough."""
        if self.identities is None:
            return True
        return identity is not None and any(
            match.matches(identity) for match in self.identities
        )

    def admits_source(self, source: IPAddress) -> bool:
        """Whether `source` is in one of the networks, where any are demanded."""
        return self.networks is None or any(
            match.matches(source) for match in self.networks
        )


@dataclass(frozen=True, slots=True)
class PortPolicy:
    """What a Server says of one port: "Server shop/api-http" and who may open it."""

    server: str
    access_policy: DefaultPolicy = DefaultPolicy.DENY
    authorizations: tuple[Authorization, ...] = ()


@dataclass(frozen=True, slots=True)
class InboundPolicy:
    """
    All that decides about connections to one workload.

    `default_from` names where `default` was set: "Pod shop/api", "Namespace shop" or
    "configuration". `cluster_networks` is what the `cluster-` policies call cluster.
    """

    workload: str
    default: DefaultPolicy
    default_from: str = "configuration"
    ports: Mapping[int, PortPolicy] = field(default_factory=dict)
    cluster_networks: tuple[IPNetwork, ...] = ()
