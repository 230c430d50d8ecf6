"""
Which certificate to ask for next: the renewer's decisions, without its I/O.

An identity is *urgent* while it has no certificate that anyone accepts (none yet, or
an expired one): its pods wait for it. Renewing one that is still valid is background
work and never fills all slots, so a new pod does not queue behind a slow renewal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agent.identity.certificate import Svid
from agent.identity.credential import Credential
from agent.identity.rotation import CertificateState, judge, renew_at, retry_after
from agent.identity.spiffe import SpiffeId

MAX_IN_FLIGHT: Final = 8  # as ztunnel
MAX_BACKGROUND: Final = 4

_USABLE: Final = frozenset({CertificateState.VALID, CertificateState.DUE})


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """One identity, as `podlock status` shows it. Times are aware UTC."""

    identity: SpiffeId
    state: CertificateState
    svid: Svid | None
    renew_at: datetime | None
    last_error: str | None
    """What the latest attempt met; None after a success."""
    since: datetime
    """When the identity came into this state."""


@dataclass(slots=True)
class _Entry:
    wanted_since: datetime
    next_try: datetime
    credential: Credential | None = None
    received: datetime | None = None
    renewal: datetime | None = None
    failures: int = 0
    last_error: str | None = None
    expiry_told: bool = False

    def state(self, now: datetime) -> CertificateState:
        if self.credential is None or self.renewal is None:
            return CertificateState.PENDING
        svid = self.credential.svid
        return judge(svid.not_before, svid.not_after, self.renewal, now)

    def since(self, now: datetime) -> datetime:
        if self.credential is None or self.renewal is None or self.received is None:
            return self.wanted_since
        match self.state(now):
            case CertificateState.DUE:
                return self.renewal
            case CertificateState.EXPIRED:
                return self.credential.svid.not_after
            case _:
                return self.received


class Schedule:
    """The wanted identities and where each one stands."""

    def __init__(self) -> None:
        self._entries: dict[SpiffeId, _Entry] = {}
        # Outlives the entry: an identity that is dropped and wanted again while its
        # request is under way must not get a second one.
        self._urgent: set[SpiffeId] = set()
        self._background: set[SpiffeId] = set()

    def set_wanted(self, identities: Iterable[SpiffeId], now: datetime) -> None:
        """Replace the wanted set; keys of identities outside it are forgotten."""
        wanted = set(identities)
        for identity in self._entries.keys() - wanted:
            del self._entries[identity]
        for identity in wanted - self._entries.keys():
            self._entries[identity] = _Entry(wanted_since=now, next_try=now)

    def start(self, now: datetime) -> list[SpiffeId]:
        """Take the identities to ask for now; each ends in `succeeded` or `failed`."""
        waiting = sorted(
            (not self._is_urgent(entry, now), entry.next_try, identity)
            for identity, entry in self._entries.items()
            if entry.next_try <= now and not self._in_flight(identity)
        )
        started = []
        for background, _, identity in waiting:
            if len(self._urgent) + len(self._background) == MAX_IN_FLIGHT:
                break
            if background and len(self._background) == MAX_BACKGROUND:
                break
            (self._background if background else self._urgent).add(identity)
            started.append(identity)
        return started

    def succeeded(
        self, identity: SpiffeId, credential: Credential, now: datetime, jitter: float
    ) -> bool:
        """Note a new credential; False if nobody wants it any more."""
        self._finish(identity)
        entry = self._entries.get(identity)
        if entry is None:
            return False
        svid = credential.svid
        entry.credential, entry.received = credential, now
        entry.renewal = renew_at(svid.not_before, svid.not_after, jitter)
        # A very short certificate may be due already: not again in the same breath.
        entry.next_try = max(entry.renewal, now + retry_after(0, jitter))
        entry.failures, entry.last_error, entry.expiry_told = 0, None, False
        return True

    def failed(
        self, identity: SpiffeId, error: str, now: datetime, jitter: float
    ) -> datetime | None:
        """
        Note a failure; the credential that we have is kept.

        Returns: when the next attempt is due; None if nobody wants it any more.
        """
        self._finish(identity)
        entry = self._entries.get(identity)
        if entry is None:
            return None
        entry.next_try = now + retry_after(entry.failures, jitter)
        entry.failures += 1
        entry.last_error = error
        return entry.next_try

    def next_event(self, now: datetime) -> datetime | None:
        """When to look again (an attempt or an expiry); None for not by itself."""
        return min(self._events(now), default=None)

    def newly_expired(self, now: datetime) -> list[Svid]:
        """Certificates that ended without a successor; each is told once."""
        found = []
        for entry in self._entries.values():
            if entry.state(now) is CertificateState.EXPIRED and not entry.expiry_told:
                assert entry.credential is not None
                entry.expiry_told = True
                found.append(entry.credential.svid)
        return found

    def report(self, now: datetime) -> list[CertificateStatus]:
        """Every wanted identity, in order."""
        return [
            CertificateStatus(
                identity=identity,
                state=entry.state(now),
                svid=entry.credential.svid if entry.credential else None,
                renew_at=entry.renewal,
                last_error=entry.last_error,
                since=entry.since(now),
            )
            for identity, entry in sorted(self._entries.items())
        ]

    def _is_urgent(self, entry: _Entry, now: datetime) -> bool:
        return entry.state(now) not in _USABLE

    def _in_flight(self, identity: SpiffeId) -> bool:
        return identity in self._urgent or identity in self._background

    def _finish(self, identity: SpiffeId) -> None:
        self._urgent.discard(identity)
        self._background.discard(identity)

    def _events(self, now: datetime) -> Iterator[datetime]:
        for identity, entry in self._entries.items():
            # Due and not started: it waits for a slot, and a free slot wakes us.
            if entry.next_try > now and not self._in_flight(identity):
                yield entry.next_try
            if entry.credential is not None and not entry.expiry_told:
                yield entry.credential.svid.not_after
