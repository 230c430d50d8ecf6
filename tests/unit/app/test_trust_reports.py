"""The authority hears what a node relies on: at once when it changes, and for ever."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from agent.app.trust_reports import TrustReports, trust_report
from agent.identity.chain import Chain
from agent.identity.report import PeerTrust, TrustReport
from agent.identity.schedule import Schedule
from agent.identity.source import IdentityUnavailable, Signed
from agent.identity.trust import Trust
from tests.unit.identity.parts import (
    API,
    BATCH,
    NOW,
    credential_for,
    make_authority,
    until,
)

AUTHORITY = make_authority()
CREDENTIAL = credential_for(AUTHORITY, API, serial=0xABC)
CHAIN = Chain.of_credential(CREDENTIAL, AUTHORITY.bundle)
ANCHOR, ISSUER = CHAIN.anchor or "", CHAIN.issuer or ""
REPORT = TrustReport("n1", 1)
PEER = PeerTrust(ANCHOR, ISSUER, 1, datetime(2026, 3, 1, tzinfo=UTC))


class FakeSource:
    """Hears reports, unless it is away."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, TrustReport]] = []
        self.attempts = 0
        self.error: Exception | None = None
        self.hangs = False
        self.began = trio.current_time()

    async def sign(self, csr_der: bytes) -> Signed:
        raise NotImplementedError

    def watch(self) -> AsyncGenerator[Trust, None]:
        raise NotImplementedError

    async def acknowledge(self, report: TrustReport) -> None:
        await trio.lowlevel.checkpoint()
        self.attempts += 1
        if self.hangs:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        self.heard.append((trio.current_time() - self.began, report))


class World:
    def __init__(self) -> None:
        self.source = FakeSource()
        self.report: TrustReport | None = None
        self.reports = TrustReports(self.source, lambda: self.report, lambda: 0.5)


def outcome(world: World) -> tuple[int | None, str | None]:
    return world.reports.acknowledged, world.reports.error


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    made = World()
    nursery.start_soon(made.reports.run)
    return made


async def test_nothing_to_tell(autojump_clock: MockClock, world: World) -> None:
    """Before there is any trust there is no report."""
    await trio.sleep(600)
    assert world.source.attempts == 0
    assert world.reports.acknowledged is None


async def test_told_when_it_changes_and_once_a_minute(
    autojump_clock: MockClock, world: World
) -> None:
    """A new version, a new certificate, the first or last peer under an issuer."""
    world.report = REPORT
    await trio.sleep(1)
    assert world.reports.acknowledged == 1
    for number, changed in enumerate(
        [replace(REPORT, version=2), replace(REPORT, version=2, peers=(PEER,)), REPORT]
    ):
        world.report = changed
        await trio.sleep(1)
        assert len(world.source.heard) == number + 2
    await trio.sleep(300)
    assert len(world.source.heard) == 4 + 5


async def test_counts_alone_are_no_news(
    autojump_clock: MockClock, world: World
) -> None:
    """Connections come and go all the time."""
    world.report = replace(REPORT, peers=(PEER,))
    await trio.sleep(1)
    world.report = replace(REPORT, peers=(replace(PEER, connections=9),))
    await trio.sleep(10)
    assert len(world.source.heard) == 1


async def test_an_authority_that_is_away(
    autojump_clock: MockClock, world: World
) -> None:
    """The reason can be asked for, and then it hears the latest within seconds."""
    world.source.error = IdentityUnavailable("identity service: down")
    world.report = REPORT
    await trio.sleep(600)
    assert outcome(world) == (None, "identity service: down")
    assert world.source.attempts < 600 / 4
    world.source.error, world.report = None, replace(REPORT, version=7)
    await trio.sleep(10)
    assert outcome(world) == (7, None)


async def test_an_authority_that_hangs(autojump_clock: MockClock, world: World) -> None:
    """Within ten seconds of its return, though the request before was lost."""
    world.source.hangs, world.report = True, REPORT
    await trio.sleep(600)
    asked = world.source.attempts
    await until(lambda: world.source.attempts > asked)
    world.source.hangs = False
    await trio.sleep(10)
    assert outcome(world) == (1, None)


def test_what_a_report_says() -> None:
    """Identities with a certificate, and peers by what they stand on."""
    schedule = Schedule()
    schedule.set_wanted([API, BATCH], NOW)
    schedule.start(NOW)
    schedule.succeeded(API, CREDENTIAL, NOW, 0.5)
    told = trust_report(
        "n1",
        3,
        schedule.report(NOW + timedelta(hours=1)),
        {API: CHAIN},
        {(ANCHOR, ISSUER): (2, "2026-03-01T11:00:00.000Z")},
    )
    (presented,) = told.identities
    assert (presented.spiffe_id, presented.serial) == (API, 0xABC)
    assert (presented.anchor, presented.issuer) == (ANCHOR, ISSUER)
    assert presented.renewed_at == NOW
    (peer,) = told.peers
    assert peer == PeerTrust(ANCHOR, ISSUER, 2, datetime(2026, 3, 1, 11, tzinfo=UTC))
    assert TrustReport.parse(told.format()) == told


def test_what_stands_on_nothing_is_left_out() -> None:
    """Its anchor has left the bundle: it needs none."""
    schedule = Schedule()
    schedule.set_wanted([API], NOW)
    schedule.start(NOW)
    schedule.succeeded(API, CREDENTIAL, NOW, 0.5)
    lost = Chain.of_credential(CREDENTIAL, make_authority().bundle)
    told = trust_report("n1", 3, schedule.report(NOW), {API: lost}, {})
    assert told.identities == ()
