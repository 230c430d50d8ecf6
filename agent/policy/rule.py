"""
Inbound policy of one workload, compiled: what `decision.authorize` judges by.

Linkerd's policies keep their shape here, for the status to show; who is admitted is
asked of their rules in the one model (see match and index), as of Istio's.

Values only, and picklable: the control process compiles them, the proxy workers
hold them. Nothing here knows of the manifests they came from, except their names,
which every refusal repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from agent.addresses import IPAddress, IPNetwork, unmapped
from agent.errors import InputError
from agent.identity.spiffe import SCHEME, InvalidSpiffeId, SpiffeId
from agent.policy.index import RuleSet
from agent.policy.match import Attribute, Constraint, Pattern, Rule, Term, TextForm
from agent.policy.names import (
    DNS_FORM_INFIX,
    DNS_NAME,
    dns_key,
    name_key,
    suffix_key,
)

DEFAULT_ANNOTATION: Final = "config.linkerd.io/default-inbound-policy"


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
    only whole labels: `*.shop.serviceaccount...` is not `*.workshop...`. The trust
    domain is compared whole: `*.cluster.local` does not match `evil.cluster.local`.
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
        if text.startswith("*.") and DNS_NAME.fullmatch(text[2:]):
            return cls(IdentityForm.SUFFIX, text)
        if text.startswith(SCHEME):
            try:
                return cls(IdentityForm.EXACT, str(SpiffeId.parse(text)))
            except InvalidSpiffeId as error:
                raise InvalidIdentityMatch(
                    f"identity {text[:80]!r}: {error}"
                ) from error
        if DNS_NAME.fullmatch(text):
            return cls(IdentityForm.EXACT, text)
        raise InvalidIdentityMatch(
            f"identity {text[:80]!r}: expected '*', '*.suffix', a SPIFFE ID or a "
            f"lower-case name like web.shop.{DNS_FORM_INFIX}.cluster.local"
        )

    def matches(self, identity: SpiffeId) -> bool:
        """Whether an authenticated `identity` is one of these."""
        return self._matches_names(str(identity), dns_key(identity))

    def covers(self, other: IdentityMatch) -> bool:
        """Whether this matches everything that `other` matches."""
        if self.form is IdentityForm.ANY or other.form is IdentityForm.ANY:
            return self.form is IdentityForm.ANY
        if other.form is IdentityForm.SUFFIX:
            inside = other.key.endswith(self.key)
            return self.form is IdentityForm.SUFFIX and inside
        if other.text.startswith(SCHEME):
            return self.matches(SpiffeId.parse(other.text))
        if self.text.startswith(SCHEME):
            return dns_key(SpiffeId.parse(self.text)) == other.key
        return self._matches_names(other.text, other.key)

    @property
    def key(self) -> str:
        """What is compared with an identity's `dns_key`, or with its end."""
        if self.form is IdentityForm.SUFFIX:
            return suffix_key(self.text[1:])
        return name_key(self.text)

    def _matches_names(self, exact: str, dns: str | None) -> bool:
        if self.form is IdentityForm.ANY:
            return True
        if self.form is IdentityForm.EXACT:
            return self.text == exact or self.key == dns
        return dns is not None and dns.endswith(self.key)


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

    def rule(self) -> Rule:
        """The same, in the one model: a term for each way to be admitted."""
        return Rule(
            self.name,
            "",
            tuple(
                Term((*who, *where))
                for who in _identity_terms(self.identities)
                for where in _network_terms(self.networks)
            ),
        )


def _identity_terms(
    matches: tuple[IdentityMatch, ...] | None,
) -> Iterator[tuple[Constraint, ...]]:
    """By SPIFFE ID or by DNS name: one of the two is enough."""
    if matches is None:
        yield ()
        return
    uris: list[Pattern] = []
    names: list[Pattern] = []
    for match in matches:
        if match.form is IdentityForm.ANY:
            uris.append(Pattern(TextForm.ANY))
        elif match.form is IdentityForm.SUFFIX:
            names.append(Pattern(TextForm.SUFFIX, match.key))
        elif match.text.startswith(SCHEME):
            uris.append(Pattern(TextForm.EXACT, match.text.removeprefix(SCHEME)))
        else:
            names.append(Pattern(TextForm.EXACT, match.key))
    for attribute, patterns in (
        (Attribute.PRINCIPAL, uris),
        (Attribute.DNS_NAME, names),
    ):
        if patterns:
            yield (Constraint(attribute, tuple(patterns), "identities"),)


def _network_terms(
    networks: tuple[NetworkMatch, ...] | None,
) -> Iterator[tuple[Constraint, ...]]:
    """Networks without exceptions are one way; each other one is a way of its own."""
    if networks is None:
        yield ()
        return
    whole = tuple(match.cidr for match in networks if not match.excluded)
    if whole:
        yield (Constraint(Attribute.SOURCE, whole, "networks"),)
    for match in networks:
        if match.excluded:
            yield (
                Constraint(Attribute.SOURCE, (match.cidr,), "networks.cidr"),
                Constraint(
                    Attribute.SOURCE, match.excluded, "networks.except", negative=True
                ),
            )


@dataclass(frozen=True, slots=True)
class PortPolicy:
    """What a Server says of one port: "Server shop/api-http" and who may open it."""

    server: str
    access_policy: DefaultPolicy = DefaultPolicy.DENY
    authorizations: tuple[Authorization, ...] = ()
    rules: RuleSet = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        rules = tuple(item.rule() for item in self.authorizations)
        object.__setattr__(self, "rules", RuleSet((self.server,), rules))


@dataclass(frozen=True, slots=True)
class MtlsMandate:
    """Whether mutual TLS is demanded, in which mode, and by which field of what."""

    strict: bool
    object: str
    field: str
    mode: str


@dataclass(frozen=True, slots=True)
class MutualTlsPolicy:
    """What Istio's PeerAuthentications say of a workload, and of some of its ports."""

    default: MtlsMandate
    ports: Mapping[int, MtlsMandate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IstioPolicy:
    """
    Istio's rules about one workload: a set for each scope that has any.

    A scope whose ALLOW policies have no rules has a set all the same, an empty one:
    it lets nobody in. The dry-run ones are judged and told, not enforced.
    """

    denies: tuple[RuleSet, ...] = ()
    allows: tuple[RuleSet, ...] = ()
    dry_denies: tuple[RuleSet, ...] = ()
    dry_allows: tuple[RuleSet, ...] = ()
    mutual_tls: MutualTlsPolicy | None = None


@dataclass(frozen=True, slots=True)
class InboundPolicy:
    """
    All that decides about connections to one workload.

    `default_from` names where `default` was set: "Pod shop/api", "Namespace shop" or
    "configuration". `cluster_networks` is what the `cluster-` policies call cluster.
    `istio` None: Istio's kinds say nothing about it.
    """

    workload: str
    default: DefaultPolicy
    default_from: str = "configuration"
    ports: Mapping[int, PortPolicy] = field(default_factory=dict)
    cluster_networks: tuple[IPNetwork, ...] = ()
    istio: IstioPolicy | None = None
