"""
An authority as a document: what signs, what is trusted, who needs what.

The answer of GET /v1/state and of `podlock ca show --json`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from agent.identity import certificate
from agent.identity.authority import WORKLOAD_LIFETIME
from agent.identity.bundle import Anchor
from agent.identity.dependence import Need, NodeRecord, present, relying
from agent.identity.report import Moment
from agent.identity.state import AuthorityState, Mark

Role = Literal["signing", "trusted", "retiring", "tainted"]
HasKey = Callable[[bytes], bool]


class NeedView(msgspec.Struct, frozen=True):
    """One reason why an anchor cannot go."""

    why: str
    subject: str
    detail: str

    @classmethod
    def of(cls, need: Need) -> NeedView:
        """The view of a need."""
        return cls(need.why.value, need.subject, need.detail)


class AnchorView(msgspec.Struct, frozen=True):
    """One anchor, and whether it may be retired."""

    fingerprint: str
    subject: str
    not_after: Moment
    role: Role
    since_version: int
    key_here: bool
    may_retire: bool
    needed_by: list[NeedView]


class IssuerView(msgspec.Struct, frozen=True):
    """What signs."""

    fingerprint: str
    subject: str
    serial: str
    anchor: str
    not_after: Moment
    key_here: bool


class MarkView(msgspec.Struct, frozen=True):
    """What signs no more."""

    fingerprint: str
    kind: str
    subject: str
    not_after: Moment
    at: Moment

    @classmethod
    def of(cls, mark: Mark) -> MarkView:
        """The view of a mark."""
        return cls(mark.fingerprint, mark.kind, mark.subject, mark.not_after, mark.at)


class NodeView(msgspec.Struct, frozen=True):
    """One node: what it reported last."""

    node: str
    version: int | None
    heard_at: Moment | None
    holds_until: Moment | None
    identities: int
    connections: int
    current: bool
    """Whether it has the version in force."""


class FederatedView(msgspec.Struct, frozen=True):
    """A foreign trust domain, and the anchors that its workloads are known by."""

    trust_domain: str
    anchors: list[str]


class StateView(msgspec.Struct, frozen=True):
    """The whole document."""

    trust_domain: str
    version: int
    issuer: IssuerView | None
    anchors: list[AnchorView]
    retiring: list[MarkView]
    tainted: list[MarkView]
    request_waits: bool
    """An issuer's CSR was made and its certificate has not come."""
    federated: list[FederatedView]
    nodes: list[NodeView]
    counters: Mapping[str, int]
    """Since the service started; empty where no service was asked."""
    problems: list[str]


def view(
    state: AuthorityState,
    records: Mapping[str, NodeRecord],
    now: datetime,
    *,
    has_key: HasKey,
    counters: Mapping[str, int] | None = None,
    problems: Collection[str] = (),
    silence: timedelta = WORKLOAD_LIFETIME,
) -> StateView:
    """Args: has_key tells whether a certificate's private key lies here."""
    alive = present(list(records.values()), now, silence)
    return StateView(
        trust_domain=str(state.trust_domain),
        version=state.version,
        issuer=_issuer(state, has_key),
        anchors=[
            _anchor(state, root.anchor, root.since, records, now, has_key, silence)
            for root in state.roots
        ],
        retiring=[MarkView.of(mark) for mark in state.retiring],
        tainted=[MarkView.of(mark) for mark in state.tainted],
        request_waits=state.request_pem is not None,
        federated=[
            FederatedView(
                str(bundle.trust_domain),
                [anchor.fingerprint for anchor in bundle.anchors],
            )
            for bundle in state.federated
        ],
        nodes=[
            _node(record, state.version)
            for record in sorted(alive, key=lambda each: each.node)
        ],
        counters=dict(counters or {}),
        problems=list(problems),
    )


def _issuer(state: AuthorityState, has_key: HasKey) -> IssuerView | None:
    anchor = state.signing_anchor
    if state.issuer is None or anchor is None:
        return None
    parsed = certificate.parse(state.issuer)
    return IssuerView(
        fingerprint=certificate.fingerprint(state.issuer),
        subject=parsed.subject.rfc4514_string(),
        serial=f"{parsed.serial_number:x}",
        anchor=anchor.fingerprint,
        not_after=parsed.not_valid_after_utc,
        key_here=has_key(state.issuer),
    )


def _anchor(
    state: AuthorityState,
    anchor: Anchor,
    since: int,
    records: Mapping[str, NodeRecord],
    now: datetime,
    has_key: HasKey,
    silence: timedelta,
) -> AnchorView:
    needs = relying(state, list(records.values()), anchor, now, silence)
    return AnchorView(
        fingerprint=anchor.fingerprint,
        subject=anchor.subject,
        not_after=anchor.not_after,
        role=_role(state, anchor),
        since_version=since,
        key_here=has_key(anchor.der),
        may_retire=not needs and len(state.roots) > 1,
        needed_by=[NeedView.of(need) for need in needs],
    )


def _role(state: AuthorityState, anchor: Anchor) -> Role:
    if state.is_tainted(anchor.fingerprint):
        return "tainted"
    if anchor == state.signing_anchor:
        return "signing"
    retiring = {mark.fingerprint for mark in state.retiring}
    return "retiring" if anchor.fingerprint in retiring else "trusted"


def _node(record: NodeRecord, version: int) -> NodeView:
    report = record.report
    return NodeView(
        node=record.node,
        version=report.version if report else None,
        heard_at=record.heard_at,
        holds_until=record.holds_until,
        identities=len(report.identities) if report else 0,
        connections=sum(p.connections for p in report.peers) if report else 0,
        current=report is not None and report.version >= version,
    )
