"""
Every live connection of this worker: registered before it is judged, judged again
whenever policy changes, reported when it opens and ends.

Registering first leaves no gap: a policy that changes between the two finds the
connection in the register, and whichever policy came last has judged it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from agent.addresses import SocketAddress
from agent.errors import PodlockError, Refused
from agent.log import logger
from agent.policy.decision import Denied, Permit, Request, authorize
from agent.policy.rule import InboundPolicy
from agent.proxy.pod import LocalPod
from agent.proxy.session import Direction, End, Meter, Path, Session, State
from agent.proxy.tunnel_stream import TunnelStream
from agent.workload.connection import Ending, Incident, Message

log = logger()

INCIDENTS_PER_SECOND: Final = 20

Tell = Callable[[Message], None]
Clock = Callable[[], float]


class Revoked(Refused):
    """A live connection lost its permit."""


@dataclass(slots=True, eq=False)
class LiveConnection:
    """A session that can be ended from outside, with a reason."""

    session: Session
    pod: LocalPod
    register: Register
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    request: Request | None = None
    outside: SocketAddress | None = None
    stream: TunnelStream | None = None
    spoke_early: bool = False
    """Bytes of the application went along with the CONNECT."""
    revoked: PodlockError | None = None

    def authorize(self, request: Request) -> Permit:
        """
        Judge this connection now, and again at every change. Raises: Denied.
        """
        self.request = request
        permit = authorize(request, self.pod.policy)
        self.session.permitted_by(permit.rule, _audited_by(permit))
        self.session.advance(State.AUTHORIZED)
        if permit.audit:
            self.register.audit(self)
        return permit

    def judge_again(self, policy: InboundPolicy) -> None:
        """By a policy that has changed: it goes on, as it was or audited, or ends."""
        if self.request is None or self.revoked is not None:
            return
        try:
            permit = authorize(self.request, policy)
        except Denied as denied:
            self.revoke(denied)
            return
        changed = self.session.permitted_by(permit.rule, _audited_by(permit))
        if changed and self.session.state is State.RELAYING:
            self.register.tell(self.session.changed())
        if changed and permit.audit:
            self.register.audit(self)

    def opened(self) -> None:
        """Bytes may flow from now on."""
        self.register.tell(self.session.open())

    def revoke(self, reason: PodlockError) -> None:
        """End the connection at once: from here on no byte reaches the application."""
        if self.revoked is None:
            self.revoked = reason
            if self.stream is not None:
                self.stream.fail(reason)
            self.scope.cancel()

    def is_revoked(self) -> bool:
        """Whether it was ended by `revoke`; its task may not have heard yet."""
        return self.revoked is not None

    def meter(self, *, app_is_client: bool) -> Meter:
        """The session's counters, as seen from one application's socket."""
        return Meter(self.session.traffic, app_is_client)


@dataclass(slots=True)
class Quota:
    """So many a second, and how many more there were."""

    second: int = 0
    told: int = 0
    silenced: int = 0

    def take(self, now: float) -> int | None:
        """How many were silenced before this one; None if it is to be silent too."""
        if int(now) != self.second:
            self.second, self.told = int(now), 0
        if self.told >= INCIDENTS_PER_SECOND:
            self.silenced += 1
            return None
        self.told += 1
        silenced, self.silenced = self.silenced, 0
        return silenced


class Register:
    """All live connections of a worker."""

    def __init__(self, worker: int, tell: Tell, clock: Clock) -> None:
        self.tell = tell
        self._worker = worker
        self._clock = clock
        self._numbers = itertools.count(1)
        # Distinguishes this worker's ids from those of its predecessor.
        self._prefix = f"{worker}-{int(clock() * 1000) & 0xFFFFFFFF:x}"
        self._live: set[LiveConnection] = set()
        # Apart by direction: what others open does not keep the pod from opening.
        self._of_pod: Counter[tuple[str, Direction]] = Counter()
        self._quotas: dict[tuple[str, str], Quota] = {}
        self._ended = trio.Event()

    async def wait_empty(self) -> None:
        """Wait until the last connection has ended."""
        while self._live:
            self._ended = trio.Event()
            await self._ended.wait()

    def count(self, pod: LocalPod, direction: Direction) -> int:
        """How many connections of a pod are live, in one direction."""
        return self._of_pod[pod.uid, direction]

    def begin(
        self, pod: LocalPod, direction: Direction, path: Path, source: End, to: End
    ) -> LiveConnection:
        """Register a connection that was just accepted."""
        session = Session(
            id=f"{self._prefix}-{next(self._numbers):x}",
            worker=self._worker,
            direction=direction,
            path=path,
            source=source,
            destination=to,
            opened=self._clock(),
        )
        live = LiveConnection(session, pod, self)
        self._live.add(live)
        self._of_pod[pod.uid, direction] += 1
        return live

    async def run(
        self, live: LiveConnection, work: Callable[[], Awaitable[None]]
    ) -> None:
        """
        Do the work of a connection, and report how it ended.

        Nothing that happens to one connection may touch another: every error ends
        here, ours with its reason and a bug with a traceback in the log.
        """
        failure: BaseException | None = None
        try:
            with live.scope:
                await work()
            failure = live.revoked
        except trio.Cancelled:
            failure = Revoked("the agent is stopping")
            raise
        except (PodlockError, OSError) as error:
            failure = live.revoked or error
        except Exception as error:
            log.exception("connection failed by a bug", session=live.session.id)
            failure = error
        finally:
            self._live.discard(live)
            self._ended.set()
            self._forget(live.pod.uid, live.session.direction)
            self._report(live, failure)

    def _forget(self, uid: str, direction: Direction) -> None:
        self._of_pod[uid, direction] -= 1
        if not self._of_pod[uid, direction]:
            del self._of_pod[uid, direction]

    def judge_again(self, policies: Mapping[str, InboundPolicy]) -> None:
        """
        These policies changed: end the connections that lost their permit, only those.

        Connections of pods that are not among them are not judged.
        """
        for live in self._live:
            if live.pod.uid in policies:
                live.judge_again(policies[live.pod.uid])

    def end_of_pod(self, pod: LocalPod, reason: str) -> None:
        """End every connection of a pod."""
        for live in self._live:
            if live.pod is pod:
                live.revoke(Revoked(reason))

    def passing_through(self) -> list[LiveConnection]:
        """Live connections to the outside, in plaintext."""
        return [live for live in self._live if live.outside is not None]

    def count_traffic(self) -> None:
        """Tell what every open connection has carried."""
        for live in self._live:
            if live.session.state is State.RELAYING:
                self.tell(live.session.count())

    def incident(self, kind: str, subject: str, message: str) -> None:
        """
        Tell something that belongs to no connection.

        A peer can cause these for nothing, so of each kind and subject only so many are
        told a second; the next one says how many were not.
        """
        now = self._clock()
        silenced = self._quotas.setdefault((kind, subject), Quota()).take(now)
        if silenced is None:
            return
        if silenced:
            message = f"{message} ({silenced} more of this kind were not told)"
        self.tell(Incident(kind=kind, object=subject, message=message, time=now))

    def audit(self, live: LiveConnection) -> None:
        """Tell of a connection that only audit lets in; each of them, it is a trail."""
        session, now = live.session, self._clock()
        who = session.source.identity or session.source.address
        to = session.destination.address
        message = f"{who} to {to}: let in, would be denied by {session.audit}"
        self.tell(
            Incident(kind="audit", object=live.pod.name, message=message, time=now)
        )

    def _report(self, live: LiveConnection, failure: BaseException | None) -> None:
        session = live.session
        reason = None if failure is None else str(failure) or type(failure).__name__
        if isinstance(failure, Denied):
            session.rule = failure.rule
        refused = isinstance(failure, Refused)
        now = self._clock()
        if session.state is State.RELAYING:
            outcome: Ending = "refused" if refused else "failed" if reason else "closed"
            message: Message = session.close(outcome, reason, now)
        else:
            text = reason or "ended before it was relayed"
            message = session.refuse("refused" if refused else "failed", text, now)
        self.tell(message)
        if reason is None:
            _log_line(session, message, reason, 0)
            return
        # A peer that is refused may come again as fast as it can.
        quota = self._quotas.setdefault(("log", live.pod.name), Quota())
        silenced = quota.take(now)
        if silenced is not None:
            _log_line(session, message, reason, silenced)


def _audited_by(permit: Permit) -> str | None:
    """The first rule that would deny, and only audits."""
    return permit.would_deny[0].rule if permit.would_deny else None


def _log_line(
    session: Session, message: Message, reason: str | None, silenced: int
) -> None:
    """
    One line per connection, at its end: a warning when it did not end in order. Of one
    pod so many a second; `silenced` is how many before it were not written.

    In order it is `debug`: to write a line costs as much as to set up a connection,
    and the status socket tells the same.
    """
    facts = {
        "session": session.id,
        "direction": session.direction,
        "path": session.path,
        "source": session.source.workload or session.source.address,
        "destination": session.destination.workload or session.destination.address,
        "sent_bytes": session.traffic.sent,
        "received_bytes": session.traffic.received,
        "outcome": getattr(message, "outcome", "closed"),
    }
    if reason is None:
        log.debug("connection closed", **facts)
    else:
        if silenced:
            facts["not_logged"] = silenced
        log.warning("connection closed", reason=reason, rule=session.rule, **facts)
