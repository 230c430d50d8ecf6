"""
The schedule against a service that comes and goes, in any order of events.

The machine plays the renewer and the service on a virtual clock: requests are
answered, refused, fail at once or hang until their time limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.identity.renewer import Settings
from agent.identity.rotation import renew_at
from agent.identity.schedule import MAX_IN_FLIGHT, Schedule
from agent.identity.spiffe import SpiffeId
from tests.unit.identity.parts import NOW, TD, credential_for, make_authority

AUTHORITY = make_authority()
WANTED: Final = [SpiffeId.for_workload(TD, "shop", f"{n:02}") for n in range(14)]

LIMIT: Final = Settings().request_deadline
ANSWER: Final = timedelta(milliseconds=20)
REACHED_WITHIN: Final = timedelta(seconds=10)
# While a service is away: a probe at 0, 0.4, 1.2 s, and later ones further apart.
PROBES_A_SECOND: Final = 3

JITTER = st.floats(0, 1)


class Service(Enum):
    """What it does with a request."""

    THERE = "answers"
    DOWN = "is not there"
    HANGS = "takes requests and does not answer"


@dataclass(slots=True)
class Request:
    """One under way: when it ends, and whether with an answer."""

    identity: SpiffeId
    ends: datetime
    answered: bool


@dataclass(slots=True)
class Simulation:
    """The renewer's loop and the service."""

    schedule: Schedule = field(default_factory=Schedule)
    now: datetime = NOW
    service: Service = Service.THERE
    back_at: datetime = NOW
    """Since when it answers, while it does."""
    noticed_at: datetime | None = None
    """Since when the renewer knows that it does not."""
    jitter: float = 0.5
    refused: set[SpiffeId] = field(default_factory=set)
    wanted: dict[SpiffeId, datetime] = field(default_factory=dict)
    due: dict[SpiffeId, datetime] = field(default_factory=dict)
    """When those that have a certificate need the next one at the latest."""
    under_way: list[Request] = field(default_factory=list)
    starts: deque[datetime] = field(default_factory=lambda: deque(maxlen=64))
    most_in_flight: int = 0

    def want(self, identities: list[SpiffeId]) -> None:
        self.wanted = {who: self.wanted.get(who, self.now) for who in identities}
        self.due = {who: at for who, at in self.due.items() if who in self.wanted}
        self.schedule.set_wanted(identities, self.now)

    def becomes(self, service: Service) -> None:
        if service is Service.THERE and self.service is not Service.THERE:
            self.back_at, self.noticed_at = self.now, None
        self.service = service

    def run(self, duration: timedelta) -> None:
        end = self.now + duration
        while True:
            self._start()
            times = [each.ends for each in self.under_way]
            if (event := self.schedule.next_event(self.now)) is not None:
                times.append(event)
            later = min((at for at in times if at > self.now), default=end)
            self.now = min(later, end)
            self._finish()
            self.check()
            if self.now == end:
                return

    def _start(self) -> None:
        self.schedule.newly_expired(self.now)
        for identity in self.schedule.start(self.now):
            there = self.service is Service.THERE
            hangs = self.service is Service.HANGS
            takes = ANSWER if there else LIMIT if hangs else timedelta(milliseconds=1)
            self.under_way.append(Request(identity, self.now + takes, there))
            self.starts.append(self.now)
        self.most_in_flight = max(self.most_in_flight, len(self.under_way))

    def _finish(self) -> None:
        for each in [one for one in self.under_way if one.ends <= self.now]:
            self.under_way.remove(each)
            who, now = each.identity, self.now
            if not each.answered:
                self.schedule.failed(who, "down", now, self.jitter, answered=False)
                if self.service is not Service.THERE:
                    self.noticed_at = self.noticed_at or now
            elif who in self.refused:
                self.schedule.failed(who, "no such pod", now, self.jitter)
            else:
                credential = credential_for(AUTHORITY, who, now=now)
                if self.schedule.succeeded(who, credential, now, self.jitter):
                    svid = credential.svid
                    self.due[who] = renew_at(svid.not_before, svid.not_after, 1)

    def check(self) -> None:
        """What guarantee 6 says, and the rate."""
        assert self.most_in_flight <= MAX_IN_FLIGHT
        if self.service is Service.THERE:
            for who in self.wanted.keys() - self.refused:
                since = max(self.back_at, self.due.get(who, self.wanted[who]))
                assert self.now < since + REACHED_WITHIN, f"{who} waits since {since}"
        elif self.noticed_at is not None:
            begin = max(self.now - timedelta(seconds=1), self.noticed_at)
            assert sum(at > begin for at in self.starts) <= PROBES_A_SECOND


class Outages(RuleBasedStateMachine):
    """Outages begin and end, identities come, go and are refused."""

    def __init__(self) -> None:
        super().__init__()
        self.world = Simulation()
        self.world.want(WANTED[:3])

    @rule(service=st.sampled_from(Service))
    def changes(self, service: Service) -> None:
        self.world.becomes(service)

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 4.0, 7.9]), jitter=JITTER)
    def a_moment(self, seconds: float, jitter: float) -> None:
        self.world.jitter = jitter
        self.world.run(timedelta(seconds=seconds))

    @rule(
        minutes=st.integers(1, 20),
        jitter=JITTER,
        service=st.sampled_from([Service.DOWN, Service.HANGS]),
        rest=JITTER,
    )
    def outage(
        self, minutes: int, jitter: float, service: Service, rest: float
    ) -> None:
        self.world.becomes(service)
        self.world.jitter = jitter
        self.world.run(timedelta(minutes=minutes, seconds=10 * rest))
        self.world.becomes(Service.THERE)
        self.world.run(REACHED_WITHIN)

    @rule(
        minutes=st.integers(0, 3),
        jitter=JITTER,
        service=st.sampled_from([Service.DOWN, Service.HANGS]),
    )
    def returns_after_a_request_was_lost(
        self, minutes: int, jitter: float, service: Service
    ) -> None:
        """The worst moment: it hangs for its whole limit, or the next one waits."""
        self.world.becomes(service)
        self.world.jitter = jitter
        self.world.run(timedelta(minutes=minutes))
        for _ in range(1000):
            if self.world.starts and self.world.starts[-1] == self.world.now:
                break
            self.world.run(timedelta(milliseconds=20))
        self.world.becomes(Service.THERE)
        self.world.run(REACHED_WITHIN)

    @rule(hours=st.integers(1, 18), jitter=JITTER)
    def a_day(self, hours: int, jitter: float) -> None:
        """The service is there: certificates are renewed in time."""
        self.world.becomes(Service.THERE)
        self.world.jitter = jitter
        self.world.run(timedelta(hours=hours))

    @rule(wanted=st.sets(st.sampled_from(WANTED)))
    def pods_come_and_go(self, wanted: set[SpiffeId]) -> None:
        self.world.want(sorted(wanted))

    @rule(refused=st.sets(st.sampled_from(WANTED), max_size=4))
    def refuses(self, refused: set[SpiffeId]) -> None:
        """For good: each has its own back-off, and holds up no other."""
        self.world.refused |= refused

    @invariant()
    def holds(self) -> None:
        self.world.check()


TestOutages = Outages.TestCase
TestOutages.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
