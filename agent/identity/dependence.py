"""
Who still needs an anchor: the answer before a bundle is made smaller.

From what nodes reported last. Open connections need none: their handshakes are over,
and they go on when an anchor leaves (their tunnels only take no new streams). A node
that has been silent for longer than a certificate lives holds none that counts, and
is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from agent.identity.authority import WORKLOAD_LIFETIME
from agent.identity.bundle import Anchor
from agent.identity.report import TrustReport
from agent.identity.state import AuthorityState, Root, stands_in

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Why(Enum):
    """In which way something needs an anchor."""

    SIGNING = "signing"
    NOT_ACKNOWLEDGED = "not-acknowledged"
    NEVER_REPORTED = "never-reported"
    PRESENTED = "presented"
    NOT_FETCHED = "not-fetched"


@dataclass(frozen=True, slots=True)
class Need:
    """One reason why an anchor cannot go, or not sign yet."""

    why: Why
    subject: str
    """A node, or a workload's SPIFFE ID."""
    detail: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}"


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What the authority knows of one node. Times are aware UTC."""

    node: str
    heard_at: datetime | None = None
    report: TrustReport | None = None
    holds_until: datetime | None = None
    """No certificate that was issued to it is valid for longer."""


def relying(
    state: AuthorityState,
    records: Collection[NodeRecord],
    anchor: Anchor,
    now: datetime,
    silence: timedelta = WORKLOAD_LIFETIME,
) -> tuple[Need, ...]:
    """Everything that would break if `anchor` left the bundle now."""
    needs: list[Need] = []
    if anchor == state.signing_anchor:
        needs.append(
            Need(Why.SIGNING, "the issuer", "is under it; promote another anchor")
        )
    others = [r.anchor for r in state.roots if r.anchor != anchor]
    if any(stands_in(other, anchor) for other in others):
        return tuple(needs)  # what chains to it chains to its successor
    for record in present(records, now, silence):
        needs += _unaware(record, state.version)
        needs += _holding(record, anchor, now)
    return tuple(needs)


def lacking(
    records: Collection[NodeRecord],
    root: Root,
    now: datetime,
    silence: timedelta = WORKLOAD_LIFETIME,
) -> tuple[Need, ...]:
    """The nodes that would refuse what is signed under an anchor that is new."""
    return tuple(
        need
        for record in present(records, now, silence)
        for need in _unaware(record, root.since)
    )


def present(
    records: Collection[NodeRecord], now: datetime, silence: timedelta
) -> Iterable[NodeRecord]:
    """
    The nodes that still count.

    When nobody was heard for so long, it is the clock or the service that was away,
    and all of them count.
    """
    alive = [record for record in records if _last_seen(record) > now - silence]
    return alive or records


def _last_seen(record: NodeRecord) -> datetime:
    times = (record.heard_at, record.holds_until)
    return max((time for time in times if time is not None), default=LONG_AGO)


def _unaware(record: NodeRecord, version: int) -> Iterator[Need]:
    if record.report is None:
        detail = f"holds certificates until {record.holds_until} and reports nothing"
        yield Need(Why.NEVER_REPORTED, record.node, detail)
    elif record.report.version < version:
        detail = f"has version {record.report.version} of the trust, not {version}"
        yield Need(Why.NOT_ACKNOWLEDGED, record.node, detail)


def _holding(record: NodeRecord, anchor: Anchor, now: datetime) -> Iterator[Need]:
    if record.report is None:
        return
    for each in record.report.identities:
        if each.anchor == anchor.fingerprint and each.not_after > now:
            detail = f"presents a certificate under it on {record.node}"
            yield Need(Why.PRESENTED, str(each.spiffe_id), detail)
