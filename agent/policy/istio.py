"""
Istio's policy kinds (group security.istio.io), as a manifest spells them.

Source: Istio's references of AuthorizationPolicy and PeerAuthentication, and what its
admission webhook refuses. Fields that need HTTP to enforce are read, so that they can
be reported; `agent.policy.istio_rules` says what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from agent.policy.istio_names import check_namespace, check_principal
from agent.policy.match import Pattern, TextForm
from agent.policy.objects import (
    DnsLabel,
    DnsSubdomain,
    PolicyObject,
    Strict,
    parse_network,
)

GROUP: Final = "security.istio.io"
VERSIONS: Final = ("v1", "v1beta1")
DRY_RUN_ANNOTATION: Final = "istio.io/dry-run"

# Of an object that cannot be read and may be about any namespace.
EVERY_NAMESPACE: Final = ""

# Istio's own limits on the lists of a policy.
MAX_RULES: Final = 512
MAX_ACCOUNTS: Final = 16
MAX_TARGETS: Final = 16

_NOT_STAR: Final = r"[^*\s]"
Text = Annotated[
    str,
    msgspec.Meta(pattern=rf"^(\*|\*?{_NOT_STAR}+|{_NOT_STAR}+\*)\Z", max_length=2048),
]
"""`*`, `text`, `text*` or `*text`."""
Port = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,4}\Z")]
Account = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-.a-z0-9]*[a-z0-9])?\Z",
        max_length=320,
    ),
]
"""`service-account`, in the policy's namespace, or `namespace/service-account`."""
NonEmpty = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
Accounts = Annotated[tuple[Account, ...], msgspec.Meta(max_length=MAX_ACCOUNTS)]

# Conditions that can be told without HTTP, by what their values are.
PRINCIPAL_KEY: Final = "source.principal"
NAMESPACE_KEY: Final = "source.namespace"
ACCOUNT_KEY: Final = "source.serviceAccount"
TEXT_KEYS: Final = frozenset({PRINCIPAL_KEY, NAMESPACE_KEY, ACCOUNT_KEY})
ADDRESS_KEYS: Final = frozenset({"source.ip", "destination.ip"})
PORT_KEY: Final = "destination.port"

_SOURCE_L7: Final = (
    "request_principals",
    "not_request_principals",
    "remote_ip_blocks",
    "not_remote_ip_blocks",
)
_OPERATION_L7: Final = (
    "hosts",
    "not_hosts",
    "methods",
    "not_methods",
    "paths",
    "not_paths",
)


class Source(Strict, frozen=True, kw_only=True):
    """Who: every field that is given must hold, and each by any of its values."""

    principals: tuple[Text, ...] = ()
    not_principals: tuple[Text, ...] = ()
    namespaces: tuple[Text, ...] = ()
    not_namespaces: tuple[Text, ...] = ()
    service_accounts: Accounts = ()
    not_service_accounts: Accounts = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    request_principals: tuple[NonEmpty, ...] = ()
    not_request_principals: tuple[NonEmpty, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()
    trust_domains: tuple[Text, ...] = ()
    not_trust_domains: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        _demand_one(self)
        for text in (*self.principals, *self.not_principals):
            check_principal(text)
        for text in (*self.namespaces, *self.not_namespaces):
            check_namespace(text)
        for blocks in (
            self.ip_blocks,
            self.not_ip_blocks,
            self.remote_ip_blocks,
            self.not_remote_ip_blocks,
        ):
            for block in blocks:
                parse_network(block)

    @property
    def unenforceable(self) -> tuple[str, ...]:
        """The fields that need HTTP, as they are spelt."""
        return tuple(camel(name) for name in _SOURCE_L7 if getattr(self, name))


class Operation(Strict, frozen=True, kw_only=True):
    """What: only ports can be told without HTTP."""

    ports: tuple[Port, ...] = ()
    not_ports: tuple[Port, ...] = ()
    hosts: tuple[NonEmpty, ...] = ()
    not_hosts: tuple[NonEmpty, ...] = ()
    methods: tuple[NonEmpty, ...] = ()
    not_methods: tuple[NonEmpty, ...] = ()
    paths: tuple[NonEmpty, ...] = ()
    not_paths: tuple[NonEmpty, ...] = ()

    def __post_init__(self) -> None:
        _demand_one(self)
        for port in (*self.ports, *self.not_ports):
            _check_port(port)

    @property
    def unenforceable(self) -> tuple[str, ...]:
        """The fields that need HTTP, as they are spelt."""
        return tuple(camel(name) for name in _OPERATION_L7 if getattr(self, name))


class From(Strict, frozen=True, kw_only=True):
    source: Source


class To(Strict, frozen=True, kw_only=True):
    operation: Operation


class Condition(Strict, frozen=True, kw_only=True):
    """A further demand; only `source.*` and `destination.*` need no HTTP."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    values: tuple[NonEmpty, ...] = ()
    not_values: tuple[NonEmpty, ...] = ()

    def __post_init__(self) -> None:
        if not self.values and not self.not_values:
            raise ValueError("expected at least one of values or notValues")
        for value in (*self.values, *self.not_values):
            if self.key in ADDRESS_KEYS:
                parse_network(value)
            elif self.key == PORT_KEY:
                _check_port(value)
            elif self.key == ACCOUNT_KEY:
                msgspec.convert(value, Account)
            elif self.key in TEXT_KEYS:
                msgspec.convert(value, Text)
                if self.key == PRINCIPAL_KEY:
                    check_principal(value)
                else:
                    check_namespace(value)

    @property
    def is_enforceable(self) -> bool:
        """Whether it can be told without HTTP."""
        return self.key in TEXT_KEYS | ADDRESS_KEYS | {PORT_KEY}


class PolicyRule(Strict, frozen=True, kw_only=True):
    """
    Sources, operations and conditions. A field that is absent matches everything; an
    empty `from` or `to` is refused, as by Istio's admission: a template without values
    would match everyone.
    """

    from_: Annotated[tuple[From, ...], msgspec.Meta(max_length=MAX_RULES)] | None = (
        msgspec.field(default=None, name="from")
    )
    to: tuple[To, ...] | None = None
    when: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        for name, clause in (("from", self.from_), ("to", self.to)):
            if clause is not None and not clause:
                raise ValueError(f"{name}: expected at least one entry, or no {name}")


class WorkloadSelector(Strict, frozen=True, kw_only=True):
    """Pods that have all of these labels; none: every pod."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.match_labels.items():
            if not name:
                raise ValueError("expected a label's name, not an empty one")
            if "*" in name or "*" in value:
                raise ValueError(f"{name}: {value}: a label has no wildcard")

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a pod with `labels` has them all."""
        return all(labels.get(key) == value for key, value in self.match_labels.items())


class TargetReference(Strict, frozen=True, kw_only=True):
    """What a policy is attached to, instead of a selector of pods."""

    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    name: DnsSubdomain
    group: str = ""
    namespace: DnsLabel | None = None

    @property
    def is_service(self) -> bool:
        """Whether it is a Service of the core group."""
        return self.kind == "Service" and self.group in ("", "core")


class Provider(Strict, frozen=True, kw_only=True):
    name: str


class AuthorizationPolicySpec(Strict, frozen=True, kw_only=True):
    """Without `rules` an ALLOW lets nobody in, and a DENY refuses nobody."""

    selector: WorkloadSelector | None = None
    target_ref: TargetReference | None = None
    target_refs: Annotated[
        tuple[TargetReference, ...], msgspec.Meta(max_length=MAX_TARGETS)
    ] = ()
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: Provider | None = None
    rules: Annotated[tuple[PolicyRule, ...], msgspec.Meta(max_length=MAX_RULES)] = ()

    def __post_init__(self) -> None:
        given = (self.selector, self.target_ref, self.target_refs or None)
        if sum(one is not None for one in given) > 1:
            raise ValueError("expected one of selector, targetRef and targetRefs")
        if (self.provider is not None) != (self.action == "CUSTOM"):
            raise ValueError("expected provider with action CUSTOM, and only there")

    @property
    def targets(self) -> tuple[TargetReference, ...]:
        """`targetRefs`, or the one `targetRef`."""
        return self.target_refs or (self.target_ref and (self.target_ref,)) or ()


class IstioObject(PolicyObject, frozen=True, kw_only=True):
    """What both kinds are named by; Linkerd has an AuthorizationPolicy of its own."""

    @property
    def title(self) -> str:
        """How refusals and problems name it: "Istio AuthorizationPolicy shop/api"."""
        return f"Istio {self.kind} {self.namespace}/{self.name}"


class AuthorizationPolicy(IstioObject, frozen=True, kw_only=True):
    """Who may, or may not, connect to some pods."""

    spec: AuthorizationPolicySpec = msgspec.field(
        default_factory=AuthorizationPolicySpec
    )

    def __post_init__(self) -> None:
        if self._dry_run not in _BOOLEANS:
            place = f"annotation {DRY_RUN_ANNOTATION}"
            raise ValueError(f"{place}: expected true or false, got {self._dry_run}")

    @property
    def dry_run(self) -> bool:
        """Whether it is judged and not enforced."""
        return _BOOLEANS[self._dry_run]

    @property
    def _dry_run(self) -> str:
        return self.metadata.annotations.get(DRY_RUN_ANNOTATION, "")


MtlsMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class MutualTls(Strict, frozen=True, kw_only=True):
    """UNSET: as the wider scope has it."""

    mode: MtlsMode = "UNSET"


class PeerAuthenticationSpec(Strict, frozen=True, kw_only=True):
    """Whether plaintext is let in; by port only for pods that a selector names."""

    selector: WorkloadSelector | None = None
    mtls: MutualTls = msgspec.field(default_factory=MutualTls)
    port_level_mtls: dict[str, MutualTls] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.port_level_mtls and not self.selects_pods:
            raise ValueError("portLevelMtls: expected a selector with matchLabels too")
        for port in self.port_level_mtls:
            _check_port(port)

    @property
    def selects_pods(self) -> bool:
        """Whether it is about some pods, not about a namespace or the mesh."""
        return self.selector is not None and bool(self.selector.match_labels)


class PeerAuthentication(IstioObject, frozen=True, kw_only=True):
    """Whether some pods, a namespace or the mesh take plaintext."""

    spec: PeerAuthenticationSpec = msgspec.field(default_factory=PeerAuthenticationSpec)


@dataclass(frozen=True, slots=True)
class IstioPolicies:
    """
    All objects of these kinds that are in force.

    `unreadable`: title and namespace of those that exist but could not be read and
    have no earlier state to hold. What they would close stays closed.
    """

    authorization_policies: tuple[AuthorizationPolicy, ...] = ()
    peer_authentications: tuple[PeerAuthentication, ...] = ()
    unreadable: frozenset[tuple[str, str]] = frozenset()


def pattern(text: str) -> Pattern:
    """Read one of Istio's texts with an optional `*` at one end."""
    if text == "*":
        return Pattern(TextForm.ANY)
    if text.startswith("*"):
        return Pattern(TextForm.SUFFIX, text[1:])
    if text.endswith("*"):
        return Pattern(TextForm.PREFIX, text[:-1])
    return Pattern(TextForm.EXACT, text)


def camel(name: str) -> str:
    """`not_ip_blocks` as manifests have it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _demand_one(part: Strict) -> None:
    if not any(_lists(part)):
        names = ", ".join(camel(name) for name in part.__struct_fields__[:8])
        raise ValueError(f"expected at least one of {names}")


def _lists(part: Strict) -> Iterator[object]:
    return (getattr(part, name) for name in part.__struct_fields__)


def _check_port(text: str) -> None:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text[:20]!r}: expected a port from 1 to 65535, as text")


# Go's strconv.ParseBool, which reads the annotation.
_BOOLEANS: Final = {
    "": False,
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
