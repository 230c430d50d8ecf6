"""
Which certificate to ask for next: the renewer's decisions, without its I/O.

An identity is *urgent* while it has no certificate that anyone accepts (none yet, an
expired, tainted or revoked one), for its pods wait for it, and when the one it has
ends soon. Renewing one that is good still is background work and never fills all
slots, so a new pod does not queue behind a slow renewal.

While no service answers, one identity at a time asks, the most urgent first, and what
it hears makes all others due (`agent.recovery`). A refusal has its own back-off.

Times are the wall clock's, which jumps. Forwards, what is due is due. Backwards, what
waits for another attempt would wait that much longer: it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from agent.identity.certificate import Svid
from agent.identity.credential import Credential
from agent.identity.rotation import (
    LONGEST_RETRY,
    CertificateState,
    is_urgent,
    judge,
    renew_at,
    replace_after,
    retry_after,
)
from agent.identity.spiffe import SpiffeId
from agent.recovery import Recovery

MAX_IN_FLIGHT: Final = 8  # as ztunnel
MAX_BACKGROUND: Final = 4

USABLE: Final = frozenset({CertificateState.VALID, CertificateState.DUE})

WAITED_FOR, ENDING, BACKGROUND = range(3)


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
    renewed: datetime | None
    """When the certificate was obtained."""


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
    withdrawn: datetime | None = None

    def state(self, now: datetime) -> CertificateState:
        if self.credential is None or self.renewal is None:
            return CertificateState.PENDING
        svid = self.credential.svid
        state = judge(svid.not_before, svid.not_after, self.renewal, now)
        ended = state is CertificateState.EXPIRED
        return CertificateState.WITHDRAWN if self.withdrawn and not ended else state

    def rank(self, now: datetime) -> int:
        if self.state(now) not in USABLE or self.credential is None:
            return WAITED_FOR
        svid = self.credential.svid
        ending = is_urgent(svid.not_before, svid.not_after, now)
        return ENDING if ending else BACKGROUND

    def since(self, now: datetime) -> datetime:
        if self.credential is None or self.renewal is None or self.received is None:
            return self.wanted_since
        match self.state(now):
            case CertificateState.DUE:
                return self.renewal
            case CertificateState.EXPIRED:
                return self.credential.svid.not_after
            case CertificateState.WITHDRAWN:
                return self.withdrawn or self.received
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
        self._began: dict[SpiffeId, datetime] = {}
        self._latest: datetime | None = None
        self._service = Recovery()

    def set_wanted(self, identities: Iterable[SpiffeId], now: datetime) -> None:
        """Replace the wanted set; keys of identities outside it are forgotten."""
        wanted = set(identities)
        for identity in self._entries.keys() - wanted:
            del self._entries[identity]
        for identity in wanted - self._entries.keys():
            self._entries[identity] = _Entry(wanted_since=now, next_try=now)

    def start(self, now: datetime) -> list[SpiffeId]:
        """Take the identities to ask for now; each ends in `succeeded` or `failed`."""
        self._notice_clock(now)
        if len(self._urgent) + len(self._background) == MAX_IN_FLIGHT:
            return []  # at once: there may be a thousand that wait
        probe_at = self._probe_at()
        if probe_at is not None and now < probe_at:
            return []
        waiting = sorted(
            (entry.rank(now), entry.next_try, identity)
            for identity, entry in self._entries.items()
            if entry.next_try <= now and not self._in_flight(identity)
        )
        if probe_at is not None:
            return [self._begin(rank, who, now) for rank, _, who in waiting[:1]]
        started = []
        for rank, _, identity in waiting:
            if len(self._urgent) + len(self._background) == MAX_IN_FLIGHT:
                break
            if rank == BACKGROUND and len(self._background) >= MAX_BACKGROUND:
                break
            started.append(self._begin(rank, identity, now))
        return started

    def succeeded(
        self, identity: SpiffeId, credential: Credential, now: datetime, jitter: float
    ) -> bool:
        """Note a new credential; False if nobody wants it any more."""
        self._finish(identity, now)
        self.resume(now)
        entry = self._entries.get(identity)
        if entry is None:
            return False
        svid = credential.svid
        entry.credential, entry.received = credential, now
        entry.renewal = renew_at(svid.not_before, svid.not_after, jitter)
        # A very short certificate may be due already: not again in the same breath.
        entry.next_try = max(entry.renewal, now + retry_after(0, jitter))
        entry.failures, entry.last_error, entry.expiry_told = 0, None, False
        entry.withdrawn = None
        return True

    def replace(self, identity: SpiffeId, now: datetime, jitter: float) -> None:
        """Renew a certificate soon that is good, though its issuer goes."""
        entry = self._entries[identity]
        entry.next_try = min(entry.next_try, now + replace_after(jitter))

    def withdraw(
        self, identity: SpiffeId, reason: str, now: datetime, jitter: float
    ) -> None:
        """A certificate must not be used any more: it is replaced before others."""
        entry = self._entries[identity]
        if entry.withdrawn is not None:
            return  # told before; attempts are under way
        entry.withdrawn, entry.last_error, entry.failures = now, reason, 0
        entry.next_try = min(entry.next_try, now + replace_after(jitter))

    def resume(self, now: datetime) -> None:
        """The service answers: all that is due may ask."""
        self._service.answered(now.timestamp())

    def hurry(self, identity: SpiffeId, now: datetime) -> None:
        """There is something for it now: its pause after a failure is over."""
        if (entry := self._entries.get(identity)) is not None:
            entry.next_try = min(entry.next_try, now)

    def take_away(self, identity: SpiffeId, reason: str, now: datetime) -> bool:
        """Forget a credential that its source took back; False where there was none."""
        entry = self._entries.get(identity)
        if entry is None or entry.credential is None:
            return False
        entry.credential = entry.received = entry.renewal = entry.withdrawn = None
        entry.wanted_since, entry.last_error = now, reason
        return True

    def credentials(self) -> dict[SpiffeId, Credential]:
        """What there is, usable or not."""
        return {
            identity: entry.credential
            for identity, entry in self._entries.items()
            if entry.credential is not None
        }

    def failed(
        self,
        identity: SpiffeId,
        error: str,
        now: datetime,
        jitter: float,
        *,
        answered: bool = True,
    ) -> datetime | None:
        """
        Note a failure; the credential that we have is kept.

        `answered`: whether the service refused, or was not there.

        Returns: when the next attempt is due; None if nobody wants it any more.
        """
        began = self._finish(identity, now)
        if answered:
            self.resume(now)
        else:
            self._service.unanswered(began.timestamp(), jitter)
        entry = self._entries.get(identity)
        if entry is None:
            return None
        entry.last_error = error
        if answered:
            entry.next_try = now + retry_after(entry.failures, jitter)
            entry.failures += 1
            return entry.next_try
        entry.next_try = now  # due, behind the others that wait for the service
        return max(now, self._probe_at() or now)

    def next_event(self, now: datetime) -> datetime | None:
        """When to look again (an attempt or an expiry); None for not by itself."""
        return min(self._events(now), default=None)

    def newly_expired(self, now: datetime) -> list[Svid]:
        """Certificates that ended without a successor; each is told once."""
        found = []
        for entry in self._entries.values():
            if entry.credential is None or entry.expiry_told:
                continue
            if now >= entry.credential.svid.not_after:
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
                renewed=entry.received,
            )
            for identity, entry in sorted(self._entries.items())
        ]

    def _probe_at(self) -> datetime | None:
        """While the service is away: when one may ask."""
        at = self._service.next_probe
        return None if at is None else datetime.fromtimestamp(at, UTC)

    def _notice_clock(self, now: datetime) -> None:
        """Where the clock went back, attempts that wait come as soon as meant."""
        gone_back = (self._latest or now) - now
        self._latest = now
        if gone_back <= timedelta(0):
            return
        self._service.set_back(gone_back.total_seconds())
        for entry in self._entries.values():
            if entry.last_error or entry.state(now) not in USABLE:
                entry.next_try -= gone_back
            # Whose certificate starts later now asks again, at leisure.
            if entry.state(now) is CertificateState.NOT_YET_VALID:
                entry.next_try = min(entry.next_try, now + LONGEST_RETRY)

    def _in_flight(self, identity: SpiffeId) -> bool:
        return identity in self._urgent or identity in self._background

    def _begin(self, rank: int, identity: SpiffeId, now: datetime) -> SpiffeId:
        (self._background if rank == BACKGROUND else self._urgent).add(identity)
        self._began[identity] = now
        self._service.asked(now.timestamp())
        return identity

    def _finish(self, identity: SpiffeId, now: datetime) -> datetime:
        """Returns: when the request began."""
        self._urgent.discard(identity)
        self._background.discard(identity)
        return self._began.pop(identity, now)

    def _events(self, now: datetime) -> Iterator[datetime]:
        probe_at = self._probe_at()
        if probe_at is not None and probe_at > now and self._entries:
            yield probe_at
        for entry in self._entries.values():
            # Due and not started: it waits for a slot, and a free slot wakes us.
            if entry.next_try > now:
                yield entry.next_try
            if entry.credential is not None and not entry.expiry_told:
                yield entry.credential.svid.not_after
