"""Authorities change, clocks jump and services go away: certificates stay current."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from agent.identity.authority import Authority, create_issuer
from agent.identity.bundle import Bundle
from agent.identity.chain import Chain
from agent.identity.crl import RevocationList, Revocations
from agent.identity.renewer import Renewer, Settings
from agent.identity.rotation import CertificateState
from agent.identity.source import IdentityUnavailable
from agent.identity.spiffe import SpiffeId
from agent.identity.trust import Trust
from tests.unit.identity.crls import crl
from tests.unit.identity.parts import API, BATCH, NOW, TD, anchor_at, credential_for
from tests.unit.identity.test_renewer import HOUR, World, key_at_once

ANCHOR = anchor_at()
BUNDLE = Bundle.parse(TD, ANCHOR.certificate_pem)
ISSUERS = [create_issuer(TD, ANCHOR, now=NOW, serial=n) for n in (0xB1, 0xB2)]
FIRST, SECOND = (
    Authority.assemble(BUNDLE, each.certificate_pem, each.key, now=NOW)
    for each in ISSUERS
)
UNHURRIED = Settings(clock_check=timedelta(hours=1))
MANY = {SpiffeId.for_workload(TD, "many", f"sa-{n}") for n in range(1000)}


def issuer_of(authority: Authority, bundle: Bundle = BUNDLE) -> str:
    name = Chain.of_credential(credential_for(authority, API), bundle).issuer
    assert name is not None
    return name


def announce(
    world: World,
    authority: Authority,
    *,
    tainted: frozenset[str] = frozenset(),
    retiring: frozenset[str] = frozenset(),
) -> None:
    """The authority signs with another issuer from now on, and says so."""
    world.source.replace(authority)
    plain = world.source.trust
    world.source.told = replace(plain, tainted=tainted, retiring=retiring)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    made = World()
    made.source.authority, made.source.delay = FIRST, 0.01
    await nursery.start(made.renewer.run)
    return made


def presented(world: World) -> dict[SpiffeId, str | None]:
    """The issuer of what was published last for each identity."""
    return {
        each.svid.spiffe_id: Chain.of_credential(each, BUNDLE).issuer
        for each in world.published
    }


class TestAuthorities:
    async def test_a_taint_replaces_at_once(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """Within two seconds; meanwhile the status says what is wrong."""
        world.renewer.set_wanted({API, BATCH})
        await trio.sleep(60)
        announce(world, SECOND, tainted=frozenset({issuer_of(FIRST)}))
        await trio.sleep(0.01)
        assert world.states() == [CertificateState.WITHDRAWN] * 2
        assert "tainted issuer" in (world.renewer.report()[0].last_error or "")
        await trio.sleep(2.1)
        assert world.states() == [CertificateState.VALID] * 2
        assert set(presented(world).values()) == {issuer_of(SECOND)}
        assert len(world.published) == 4

    async def test_a_retirement_replaces_soon(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """The old certificate is good all the time."""
        world.renewer.set_wanted({API})
        await trio.sleep(60)
        announce(world, SECOND, retiring=frozenset({issuer_of(FIRST)}))
        await trio.sleep(0.01)
        assert world.states() == [CertificateState.VALID]
        await trio.sleep(2.1)
        assert presented(world) == {API: issuer_of(SECOND)}
        await trio.sleep(HOUR)
        assert len(world.published) == 2

    async def test_an_answer_that_is_late(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """Signed before the retirement, it came after: it is replaced as well."""
        world.source.delay = 5
        signed_before = world.source.authority
        world.source.alter = lambda signed: replace(
            signed, trust=Trust(1, signed_before.bundle)
        )
        world.renewer.set_wanted({API})
        await trio.sleep(1)
        announce(world, FIRST, retiring=frozenset({issuer_of(FIRST)}))
        await trio.sleep(4.1)
        assert presented(world) == {API: issuer_of(FIRST)}
        world.source.authority = SECOND
        await trio.sleep(7)
        assert presented(world) == {API: issuer_of(SECOND)}

    async def test_what_comes_tainted_is_not_used(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """An authority that goes on signing with it is asked less and less."""
        announce(world, FIRST, tainted=frozenset({issuer_of(FIRST)}))
        world.renewer.set_wanted({API})
        await trio.sleep(600)
        assert world.published == []
        assert "of no use" in world.last_error()
        assert len(world.source.asked) < 16

    async def test_a_revoked_certificate_is_replaced(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """Its number is on a list: a new key, a new number."""
        world.renewer.set_wanted({API})
        await trio.sleep(60)
        serial = world.published[0].svid.serial
        assert serial == 1
        world.source.serial = 2
        listed = RevocationList.parse(crl(ISSUERS[0], serial))
        world.renewer.revoke(Revocations([listed]))
        assert world.states() == [CertificateState.WITHDRAWN]
        await trio.sleep(2.1)
        assert world.states() == [CertificateState.VALID]
        assert world.published[1].key != world.published[0].key

    async def test_an_anchor_that_left(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """Nobody takes what is under it, so it is replaced at once."""
        other = anchor_at(serial=0x77)
        issuer = create_issuer(TD, other, now=NOW, serial=0x78)
        bundle = Bundle.parse(TD, other.certificate_pem)
        world.renewer.set_wanted({API})
        await trio.sleep(60)
        new = Authority.assemble(bundle, issuer.certificate_pem, issuer.key, now=NOW)
        announce(world, new)
        await trio.sleep(2.1)
        assert world.states() == [CertificateState.VALID]
        assert len(world.published) == 2


class TestHerd:
    @pytest.fixture
    def crowd(self, world: World) -> World:
        """Real chance, the same one in every run; no look at a clock that stands."""
        world.renewer._random = random.Random(4).random
        world.renewer._settings = UNHURRIED
        return world

    @pytest.mark.slow
    async def test_a_thousand_renew_apart(
        self, autojump_clock: MockClock, crowd: World
    ) -> None:
        """
        Supplied within a second they renew over 2.4 hours: the busiest minute has
        some twenty, where a thousand would be a herd.
        """
        crowd.renewer.set_wanted(MANY)
        await trio.sleep(30)
        assert len(crowd.published) == 1000
        assert crowd.source.most_running == 8
        crowd.source.times.clear()
        await trio.sleep(19 * HOUR)
        assert len(crowd.published) == 2000
        minutes = Counter(int(moment // 60) for moment in crowd.source.times)
        assert max(minutes.values()) < 30
        assert crowd.source.times[-1] - crowd.source.times[0] > 2 * HOUR

    @pytest.mark.slow
    async def test_a_thousand_are_replaced_after_a_taint(
        self, autojump_clock: MockClock, crowd: World
    ) -> None:
        """Spread over two seconds, eight at a time, and once each."""
        crowd.renewer.set_wanted(MANY)
        await trio.sleep(30)
        crowd.source.times.clear()
        began = trio.current_time()
        announce(crowd, SECOND, tainted=frozenset({issuer_of(FIRST)}))
        await trio.sleep(10)
        assert set(presented(crowd).values()) == {issuer_of(SECOND)}
        assert len(crowd.source.times) == 1000
        assert crowd.source.most_running == 8
        tenths = Counter(int((at - began) * 10) for at in crowd.source.times)
        assert max(tenths.values()) <= 80  # eight at a time, 10 ms each

    @pytest.mark.slow
    async def test_an_outage_ends_for_all_nodes(
        self, autojump_clock: MockClock, world: World, nursery: trio.Nursery
    ) -> None:
        """Fifty nodes that fail together do not come back together."""
        world.source.error = IdentityUnavailable("down")
        chance = random.Random(7)
        for _ in range(50):
            renewer = Renewer(
                world.source,
                TD,
                lambda _: None,
                lambda _: None,
                clock=world.clock,
                settings=UNHURRIED,
                random=chance.random,
                new_key=key_at_once,
            )
            world.source.running.clear()
            await nursery.start(renewer.run)
            world.source.exclusive = False
            renewer.set_wanted({API})
        await trio.sleep(HOUR)
        world.source.times.clear()
        await trio.sleep(300)
        seconds = Counter(int(moment) for moment in world.source.times)
        assert max(seconds.values()) < 25


class TestAway:
    async def test_ten_minutes(self, autojump_clock: MockClock, world: World) -> None:
        """The service is away, for sign and for watch alike: nothing is lost."""
        world.renewer.set_wanted({API})
        await trio.sleep(60)
        world.source.error = IdentityUnavailable("down")
        world.source.changed.set()
        for _ in range(600):
            await trio.sleep(1)
            assert world.states() == [CertificateState.VALID]
        world.source.error = None
        announce(world, SECOND, retiring=frozenset({issuer_of(FIRST)}))
        await trio.sleep(160 + 3)
        assert presented(world) == {API: issuer_of(SECOND)}

    async def test_more_than_half_a_lifetime(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """13 of 24 hours, across the renewal: valid throughout, then renewed."""
        world.renewer.set_wanted({API})
        await trio.sleep(6 * HOUR)
        world.source.error = IdentityUnavailable("down")
        usable = {CertificateState.VALID, CertificateState.DUE}
        for _ in range(13):
            await trio.sleep(HOUR)
            assert set(world.states()) <= usable
        assert world.last_error() == "down"
        world.source.error = None
        await trio.sleep(200)
        assert world.states() == [CertificateState.VALID]
        assert len(world.published) == 2


class TestClock:
    async def test_jumps_past_the_end(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """Noticed within five seconds: expired, and renewed first of all."""
        world.renewer.set_wanted({API})
        await trio.sleep(60)
        world.clock.jump(timedelta(days=3))
        assert world.states() == [CertificateState.EXPIRED]
        await trio.sleep(6)
        assert world.states() == [CertificateState.VALID]

    async def test_jumps_back_and_forth(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """A clock that was two days ahead when the certificate came."""
        world.clock.jump(timedelta(days=2))
        world.renewer.set_wanted({API})
        await trio.sleep(60)
        world.clock.jump(-timedelta(days=2))
        assert world.states() == [CertificateState.NOT_YET_VALID]
        await trio.sleep(160)
        assert world.states() == [CertificateState.VALID]
        earlier, later = world.published
        assert later.svid.not_before < earlier.svid.not_before

    async def test_jumps_back_during_an_outage(
        self, autojump_clock: MockClock, world: World
    ) -> None:
        """Attempts go on, no more than minutes apart."""
        world.source.error = IdentityUnavailable("down")
        world.renewer.set_wanted({API})
        await trio.sleep(HOUR)
        world.clock.jump(-timedelta(days=1))
        world.source.times.clear()
        await trio.sleep(HOUR)
        gaps = [later - sooner for sooner, later in pairwise(world.source.times)]
        assert len(gaps) > 15
        assert max(gaps) < 200
