"""Which certificate comes next: the urgent ones, one request each, eight at once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from agent.identity.rotation import LONGEST_RETRY, CertificateState
from agent.identity.schedule import MAX_BACKGROUND, MAX_IN_FLIGHT, Schedule
from agent.identity.spiffe import SpiffeId
from tests.unit.identity.parts import (
    API,
    BATCH,
    NOW,
    TD,
    credential_for,
    make_authority,
)

AUTHORITY = make_authority()
RENEWAL = NOW - timedelta(minutes=2) + timedelta(hours=24, minutes=2) * 0.7
END = NOW + timedelta(hours=24)


def identities(name: str, count: int) -> list[SpiffeId]:
    return [SpiffeId.for_workload(TD, name, str(n)) for n in range(count)]


def wanting(*wanted: SpiffeId) -> Schedule:
    schedule = Schedule()
    schedule.set_wanted(wanted, NOW)
    return schedule


def supply(schedule: Schedule) -> None:
    """Give every wanted identity a certificate from NOW."""
    while started := schedule.start(NOW):
        for identity in started:
            credential = credential_for(AUTHORITY, identity)
            schedule.succeeded(identity, credential, NOW, 0.5)


class TestStart:
    def test_asks_once_for_each(self) -> None:
        """A request under way is not repeated; a finished one frees its place."""
        schedule = wanting(API, BATCH)

        assert schedule.start(NOW) == [API, BATCH]
        assert schedule.start(NOW) == []
        schedule.failed(API, "down", NOW, 0.5)
        assert schedule.start(NOW) == []
        assert schedule.start(NOW + timedelta(seconds=0.5)) == [API]

    def test_asks_once_across_a_return(self) -> None:
        """Dropped and wanted again while its request runs: still one request."""
        schedule = wanting(API)
        schedule.start(NOW)
        schedule.set_wanted([], NOW)
        schedule.set_wanted([API], NOW)

        assert schedule.start(NOW) == []
        assert schedule.succeeded(API, credential_for(AUTHORITY, API), NOW, 0.5)

    def test_at_most_eight(self) -> None:
        """The rest waits for a free place."""
        schedule = wanting(*identities("many", 20))
        first = schedule.start(NOW)

        assert len(first) == MAX_IN_FLIGHT == 8
        schedule.failed(first[0], "down", NOW, 0.5)
        assert len(schedule.start(NOW)) == 1

    def test_renewals_leave_room_for_new_pods(self) -> None:
        """Background work takes half the places; a new pod gets one at once."""
        old = identities("old", 10)
        schedule = wanting(*old)
        supply(schedule)

        assert len(schedule.start(RENEWAL)) == MAX_BACKGROUND
        schedule.set_wanted([*old, API], RENEWAL)
        assert schedule.start(RENEWAL) == [API]

    def test_urgent_before_background(self) -> None:
        """Due for longer does not come before having nothing."""
        old, new = identities("a-old", 3), identities("b-new", 7)
        schedule = wanting(*old)
        supply(schedule)
        schedule.set_wanted([*old, *new], END - timedelta(hours=1))

        started = schedule.start(END - timedelta(hours=1))
        assert started[:7] == new
        assert len(started) == MAX_IN_FLIGHT

    def test_an_expired_certificate_is_urgent(self) -> None:
        """Nobody accepts it, so its pods wait like new ones."""
        old = identities("old", 10)
        schedule = wanting(*old)
        supply(schedule)

        assert len(schedule.start(END)) == MAX_IN_FLIGHT


class TestOutcome:
    def test_keeps_the_certificate_through_failures(self) -> None:
        """The error is told, the certificate stays, until it really ends."""
        schedule = wanting(API)
        supply(schedule)
        assert schedule.start(RENEWAL) == [API]
        again = schedule.failed(API, "identity service: down", RENEWAL, 0.5)

        assert again == RENEWAL + timedelta(seconds=0.5)
        (status,) = schedule.report(RENEWAL)
        assert status.state is CertificateState.DUE
        assert status.svid is not None
        assert status.last_error == "identity service: down"

    def test_failures_wait_longer_and_success_resets(self) -> None:
        """0.5 s, 1 s, 2 s; after a success, 0.5 s again."""
        schedule = wanting(API)
        now = NOW
        for seconds in (0.5, 1, 2):
            assert schedule.start(now) == [API]
            again = schedule.failed(API, "down", now, 0.5)
            assert again == now + timedelta(seconds=seconds)
            now = again
        schedule.start(now)
        schedule.succeeded(API, credential_for(AUTHORITY, API), NOW, 0.5)
        schedule.start(RENEWAL)
        assert schedule.failed(API, "down", RENEWAL, 0.5) == RENEWAL + timedelta(
            seconds=0.5
        )

    def test_a_result_that_nobody_wants_is_dropped(self) -> None:
        """The last pod left while its certificate was on the way."""
        schedule = wanting(API)
        schedule.start(NOW)
        schedule.set_wanted([], NOW)

        assert not schedule.succeeded(API, credential_for(AUTHORITY, API), NOW, 0.5)
        assert schedule.report(NOW) == []

    def test_an_unwanted_failure_is_dropped(self) -> None:
        """No attempt is planned for who left."""
        schedule = wanting(API)
        schedule.start(NOW)
        schedule.set_wanted([], NOW)

        assert schedule.failed(API, "down", NOW, 0.5) is None
        assert schedule.next_event(NOW) is None

    def test_a_very_short_certificate_makes_no_storm(self) -> None:
        """Already due when it arrives: the next request still waits a moment."""
        schedule = wanting(API)
        schedule.start(RENEWAL)
        schedule.succeeded(API, credential_for(AUTHORITY, API), RENEWAL, 0.5)

        assert schedule.start(RENEWAL) == []
        assert schedule.start(RENEWAL + timedelta(seconds=0.5)) == [API]


class TestReplacement:
    def test_a_withdrawn_certificate_goes_before_all(self) -> None:
        """Within two seconds, by chance; the status says since when and why."""
        schedule = wanting(API, *identities("old", 10))
        supply(schedule)
        for jitter, seconds in ((0.0, 0), (0.5, 1), (1.0, 2)):
            one = wanting(API)
            supply(one)
            one.withdraw(API, "tainted issuer", NOW, jitter)
            assert one.next_event(NOW - timedelta(seconds=1)) == NOW + timedelta(
                seconds=seconds
            )
        schedule.withdraw(API, "tainted issuer", RENEWAL, 0.0)

        started = schedule.start(RENEWAL)
        assert started[0] == API
        assert len(started) == 1 + MAX_BACKGROUND
        (status,) = [each for each in schedule.report(RENEWAL) if each.identity == API]
        assert (status.state, status.since, status.last_error) == (
            CertificateState.WITHDRAWN,
            RENEWAL,
            "tainted issuer",
        )

    def test_a_clean_one_ends_it(self) -> None:
        """The next certificate is valid; the old one does not come back."""
        schedule = wanting(API)
        supply(schedule)
        schedule.withdraw(API, "tainted issuer", NOW, 0.0)
        supply(schedule)
        assert [each.state for each in schedule.report(NOW)] == [CertificateState.VALID]
        assert schedule.next_event(NOW) == RENEWAL

    def test_a_withdrawn_one_may_expire(self) -> None:
        """Then its end is what the status tells."""
        schedule = wanting(API)
        supply(schedule)
        schedule.withdraw(API, "tainted issuer", NOW, 0.0)
        (status,) = schedule.report(END)
        assert (status.state, status.since) == (CertificateState.EXPIRED, END)

    def test_a_replacement_is_background(self) -> None:
        """A good certificate whose issuer goes does not push new pods aside."""
        old = identities("old", 10)
        schedule = wanting(*old)
        supply(schedule)
        for identity in old:
            schedule.replace(identity, NOW, 0.0)
        schedule.set_wanted([*old, API], NOW)

        started = schedule.start(NOW)
        assert started[0] == API
        assert len(started) == 1 + MAX_BACKGROUND

    def test_little_time_left_is_urgent(self) -> None:
        """A tenth of the lifetime before the end it does not wait for others."""
        old = identities("old", 10)
        schedule = wanting(*old)
        supply(schedule)
        assert len(schedule.start(END - timedelta(hours=2))) == MAX_IN_FLIGHT


class TestClock:
    def test_goes_back_while_an_attempt_waits(self) -> None:
        """It comes as soon as it was meant to, not an hour later."""
        schedule = wanting(API)
        schedule.start(NOW)
        schedule.failed(API, "down", NOW, 0.5)
        hour = timedelta(hours=1)
        assert schedule.start(NOW - hour) == []
        assert schedule.next_event(NOW - hour) == NOW - hour + timedelta(seconds=0.5)
        assert schedule.start(NOW - hour + timedelta(seconds=0.5)) == [API]

    def test_goes_back_behind_a_certificate(self) -> None:
        """One that starts in the future is told, kept, and asked for again."""
        schedule = wanting(API)
        supply(schedule)
        before = NOW - timedelta(days=1)
        schedule.start(before)
        (status,) = schedule.report(before)
        assert status.state is CertificateState.NOT_YET_VALID
        assert status.svid is not None
        again = schedule.next_event(before)
        assert again is not None
        assert again - before <= timedelta(seconds=150)

    def test_goes_back_a_little(self) -> None:
        """A good certificate keeps its time of renewal."""
        schedule = wanting(API)
        supply(schedule)
        schedule.start(NOW + timedelta(hours=1))
        schedule.start(NOW)
        assert schedule.next_event(NOW) == RENEWAL

    def test_goes_forward(self) -> None:
        """What is due is asked for at once, what is past its end first of all."""
        schedule = wanting(API)
        supply(schedule)
        assert schedule.start(END + timedelta(days=30)) == [API]


class TestTime:
    def test_wakes_for_the_renewal_then_for_the_end(self) -> None:
        """The renewal, and while that is under way the expiry."""
        schedule = wanting(API)
        supply(schedule)

        assert schedule.next_event(NOW) == RENEWAL
        schedule.start(RENEWAL)
        assert schedule.next_event(RENEWAL) == END

    def test_an_expiry_is_told_once(self) -> None:
        """One log line for a certificate that ended, and no reason to wake again."""
        schedule = wanting(API)
        supply(schedule)
        schedule.start(RENEWAL)

        assert schedule.newly_expired(END - timedelta(seconds=1)) == []
        assert [svid.spiffe_id for svid in schedule.newly_expired(END)] == [API]
        assert schedule.newly_expired(END) == []
        assert schedule.next_event(END) is None

    def test_reports_since_when(self) -> None:
        """Pending since wanted, valid since received, due and expired by the book."""
        schedule = wanting(BATCH, API)
        assert [status.identity for status in schedule.report(NOW)] == [API, BATCH]
        assert {status.state for status in schedule.report(NOW)} == {
            CertificateState.PENDING
        }
        supply(schedule)
        for now, state, since in [
            (NOW, CertificateState.VALID, NOW),
            (RENEWAL, CertificateState.DUE, RENEWAL),
            (END + timedelta(hours=1), CertificateState.EXPIRED, END),
        ]:
            status = schedule.report(now)[0]
            assert (status.state, status.since) == (state, since)
            assert status.renew_at == RENEWAL


class TestAfterAnOutage:
    """However long the service was away, its return is found within ten seconds."""

    def away(self, *wanted: SpiffeId, hours: int = 1) -> tuple[Schedule, datetime]:
        """A schedule after an outage, and the moment: every attempt unanswered."""
        schedule, now, asked = wanting(*wanted), NOW, 0
        while now < NOW + timedelta(hours=hours):
            while started := schedule.start(now):
                asked += len(started)
                for identity in started:
                    schedule.failed(identity, "down", now, 0.5, answered=False)
            event = schedule.next_event(now)
            assert event is not None
            assert event - now <= timedelta(seconds=10)
            now = event
        # One finds out each five seconds; the others have their back-off of 150 s.
        assert asked < hours * 3600 / 4.5 + len(wanted) * (hours * 3600 / 150 + 12)
        return schedule, now

    @pytest.mark.parametrize("count", [1, 3, 40])
    def test_one_asks_within_ten_seconds_and_all_follow(self, count: int) -> None:
        wanted = identities("shop", count)
        schedule, now = self.away(*wanted)
        started = schedule.start(now)
        assert started
        for identity in started:
            schedule.succeeded(identity, credential_for(AUTHORITY, identity), now, 0.5)
        left = set(wanted) - set(started)
        follow = schedule.start(now)
        assert set(follow) <= left
        assert len(follow) == min(len(left), MAX_IN_FLIGHT)

    def test_a_refusal_is_not_asked_again_so_soon(self) -> None:
        """The service is there: what it refuses waits longer each time."""
        schedule, now = wanting(API), NOW
        for _ in range(12):
            (identity,) = schedule.start(now)
            again = schedule.failed(identity, "not here", now, 0.5)
            assert again is not None
            schedule.start(now)
            now = again
        assert schedule.failed(API, "not here", now, 0.5) == now + LONGEST_RETRY
