"""The renewer keeps every wanted identity supplied, whatever its source does."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from math import inf

import pytest
import trio
from trio.testing import MockClock

from agent.identity.authority import Authority
from agent.identity.credential import Credential
from agent.identity.csr import check_csr
from agent.identity.key import PrivateKey
from agent.identity.renewer import Renewer
from agent.identity.report import TrustReport
from agent.identity.rotation import CertificateState
from agent.identity.source import IdentityRefused, IdentityUnavailable, Signed
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust
from tests.unit.identity.parts import (
    API,
    BATCH,
    TD,
    VirtualClock,
    credential_for,
    make_authority,
    until,
    uri,
)

AUTHORITY = make_authority()
HOUR = 3600.0


@dataclass
class FakeSource:
    """Signs everything, unless told otherwise; counts what runs at once."""

    clock: VirtualClock
    authority: Authority = AUTHORITY
    delay: float = 1.0
    error: Exception | None = None
    hangs: bool = False
    rename: SpiffeId | None = None
    alter: Callable[[Signed], Signed] = field(default=lambda signed: signed)
    asked: list[SpiffeId] = field(default_factory=list)
    version: int = 1
    changed: trio.Event = field(default_factory=trio.Event)
    told: Trust | None = None
    """In place of a trust that says nothing but the bundle."""
    serial: int = 1
    times: list[float] = field(default_factory=list)
    running: Counter[SpiffeId] = field(default_factory=Counter)
    most_running: int = 0
    watched: int = 0
    exclusive: bool = True

    async def sign(self, csr_der: bytes) -> Signed:
        request = check_csr(csr_der)
        identity = request.spiffe_id
        self.asked.append(identity)
        self.times.append(trio.current_time())
        self.running[identity] += 1
        one = self.running[identity] == 1 or not self.exclusive
        assert one, "two requests for one identity"
        self.most_running = max(self.most_running, self.running.total())
        try:
            await trio.sleep(inf if self.hangs else self.delay)
        finally:
            self.running[identity] -= 1
        if self.error:
            raise self.error
        now = self.clock()
        serial = self.serial
        chain = self.authority.issue(csr_der, identity, now=now, serial=serial)
        if self.rename:
            names = [uri(str(self.rename))]
            chain = self.authority._sign(request.public_key, names, now, 1)
        return self.alter(Signed(chain, self.trust))

    @property
    def trust(self) -> Trust:
        return self.told or Trust(self.version, self.authority.bundle)

    def replace(self, authority: Authority) -> None:
        self.authority, self.version, self.told = authority, self.version + 1, None
        self.changed.set()
        self.changed = trio.Event()

    async def watch(self) -> AsyncGenerator[Trust, None]:
        while True:
            await trio.lowlevel.checkpoint()
            self.watched += 1
            if self.hangs:
                await trio.sleep_forever()
            if self.error:
                raise self.error
            yield self.trust
            await self.changed.wait()

    async def acknowledge(self, report: TrustReport) -> None:
        raise NotImplementedError


async def key_at_once() -> PrivateKey:
    """No thread: a virtual clock would run on while one works."""
    await trio.lowlevel.checkpoint()
    return PrivateKey.generate()


class World:
    """A renewer with a virtual clock, its source and all that it published."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.source = FakeSource(self.clock)
        self.published: list[Credential] = []
        self.trusts: list[Trust] = []
        self.order: list[str] = []
        self.renewer = Renewer(
            self.source,
            TD,
            self._publish,
            self._publish_trust,
            clock=self.clock,
            random=lambda: 0.5,
            new_key=key_at_once,
        )

    def _publish(self, credential: Credential) -> None:
        self.published.append(credential)
        self.order.append("credential")

    def _publish_trust(self, trust: Trust) -> None:
        self.trusts.append(trust)
        self.order.append("trust")

    def states(self) -> list[CertificateState]:
        return [status.state for status in self.renewer.report()]

    def last_error(self) -> str:
        (status,) = self.renewer.report()
        return status.last_error or ""


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    made = World()
    await nursery.start(made.renewer.run)
    return made


async def test_a_new_identity_is_supplied_at_once(
    autojump_clock: MockClock, world: World
) -> None:
    """Asked for when it is wanted; the anchors are published before it."""
    world.renewer.set_wanted({API})
    assert world.states() == [CertificateState.PENDING]
    await trio.sleep(1.5)

    assert [credential.svid.spiffe_id for credential in world.published] == [API]
    assert world.states() == [CertificateState.VALID]
    assert world.order == ["trust", "credential"]


async def test_renews_at_seventy_percent_with_a_new_key(
    autojump_clock: MockClock, world: World
) -> None:
    """24 hours and two minutes of lifetime: the second comes after 16.8 hours."""
    world.renewer.set_wanted({API})
    await trio.sleep(16.7 * HOUR)
    assert len(world.published) == 1
    await trio.sleep(0.1 * HOUR)

    first, second = world.published
    assert second.svid.not_after > first.svid.not_after
    assert second.key != first.key
    assert len(world.trusts) == 1


async def test_a_valid_certificate_survives_an_outage(
    autojump_clock: MockClock, world: World
) -> None:
    """Failing renewals keep it; its end is reported; the end of the outage heals."""
    world.renewer.set_wanted({API})
    await trio.sleep(2)
    world.source.error = IdentityUnavailable("identity service: down")

    await trio.sleep(20 * HOUR)
    assert world.states() == [CertificateState.DUE]
    assert world.last_error() == "identity service: down"
    await trio.sleep(5 * HOUR)
    assert world.states() == [CertificateState.EXPIRED]
    world.source.error = None
    await trio.sleep(200)
    assert world.states() == [CertificateState.VALID]
    assert world.last_error() == ""


async def test_failures_back_off(autojump_clock: MockClock, world: World) -> None:
    """An hour of refusals costs tens of requests, not thousands."""
    world.source.error = IdentityRefused("identity_not_on_node", "not here")
    world.renewer.set_wanted({API})
    await trio.sleep(HOUR)

    assert 20 < len(world.source.asked) < 40
    assert world.last_error() == "identity_not_on_node: not here"
    assert world.published == []


async def test_eight_at_once_and_one_each(
    autojump_clock: MockClock, world: World
) -> None:
    """Thirty pods at start; the fake fails on a second request for one identity."""
    wanted = {SpiffeId.for_workload(TD, "shop", str(n)) for n in range(30)}
    world.renewer.set_wanted(wanted)
    await trio.sleep(0.5)
    world.renewer.set_wanted(set())
    world.renewer.set_wanted(wanted)
    await trio.sleep(10)

    assert world.source.most_running == 8
    assert {credential.svid.spiffe_id for credential in world.published} == wanted
    assert len(world.source.asked) == 30


async def test_a_hanging_source_is_given_up(
    autojump_clock: MockClock, world: World
) -> None:
    """No answer in eight seconds is a failure like others."""
    world.source.delay = 10 * HOUR
    world.renewer.set_wanted({API})
    await trio.sleep(31)

    assert world.last_error() == "no answer in 0:00:08"


async def test_what_nobody_wants_is_not_published(
    autojump_clock: MockClock, world: World
) -> None:
    """The last pod left while the request ran."""
    world.renewer.set_wanted({API})
    await trio.sleep(0.5)
    world.renewer.set_wanted({BATCH})
    await trio.sleep(5)

    assert [credential.svid.spiffe_id for credential in world.published] == [BATCH]


ANOTHER = credential_for(AUTHORITY, API).chain_pem
OTHER_TRUST = Trust(2, make_authority().bundle)
FOREIGN_TRUST = Trust(2, make_authority(td=TrustDomain("other")).bundle)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda right: Signed(b"", right.trust), "chain is empty"),
        (lambda right: Signed(b"noise", right.trust), "PEM line 1"),
        (lambda right: Signed(ANOTHER, right.trust), "for another key"),
        (lambda right: Signed(right.chain_pem, FOREIGN_TRUST), "trust domain other"),
        (lambda right: Signed(right.chain_pem, OTHER_TRUST), "ends in no anchor"),
    ],
)
async def test_a_bad_answer_is_not_used(
    autojump_clock: MockClock,
    world: World,
    answer: Callable[[Signed], Signed],
    message: str,
) -> None:
    """Wrong chain, wrong key, wrong anchors: an error, and nothing is published."""
    world.source.alter = answer
    world.renewer.set_wanted({API})
    await trio.sleep(1.2)

    assert message in world.last_error()
    assert world.published == []
    assert world.trusts == [Trust(1, AUTHORITY.bundle)]


async def test_another_identity_is_not_used(
    autojump_clock: MockClock, world: World
) -> None:
    """A service that puts somebody else's name on our key is caught."""
    world.source.rename = BATCH
    world.renewer.set_wanted({API})
    await trio.sleep(1.2)

    assert "sa/batch, expected spiffe://cluster.local/ns/shop/sa/api" in (
        world.last_error()
    )
    assert world.published == []


async def test_a_new_anchor_is_published_without_a_renewal(
    autojump_clock: MockClock, world: World
) -> None:
    """The trust is followed; the same one is not repeated."""
    await trio.sleep(HOUR)
    assert len(world.trusts) == 1
    world.source.replace(make_authority())
    await trio.sleep(1)

    assert world.trusts[1:] == [world.source.trust]


async def test_an_old_answer_does_not_bring_old_trust_back(
    autojump_clock: MockClock, world: World
) -> None:
    """It was on its way while the stream told of something newer."""
    await trio.sleep(1)
    new = Trust(2, AUTHORITY.bundle, tainted=frozenset({"a" * 64}))
    world.renewer._accept_trust(new)
    world.renewer.set_wanted({API})
    await trio.sleep(2)

    assert len(world.published) == 1
    assert world.trusts[1:] == [new]


async def test_follows_again_after_an_outage(
    autojump_clock: MockClock, world: World
) -> None:
    """With the same patience as for certificates."""
    await trio.sleep(1)
    world.source.error = IdentityUnavailable("identity service: down")
    world.source.replace(make_authority())
    await trio.sleep(HOUR)
    assert len(world.trusts) == 1
    world.source.error = None
    await trio.sleep(200)

    assert world.trusts[1:] == [world.source.trust]


async def test_a_service_that_hangs_and_returns(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """All have certificates, and the trust is followed, within ten seconds."""
    world = World()
    world.source.hangs, world.source.delay = True, 0.02
    await nursery.start(world.renewer.run)
    names = [SpiffeId.for_workload(TD, "shop", str(number)) for number in range(20)]
    world.renewer.set_wanted(names)
    await trio.sleep(3600)
    asked, watched = len(world.source.asked), world.source.watched
    await until(
        lambda: len(world.source.asked) > asked and world.source.watched > watched
    )
    world.source.hangs = False
    await trio.sleep(10)
    assert world.states() == [CertificateState.VALID] * 20
    assert world.trusts
    world.source.replace(AUTHORITY)
    await trio.sleep(1)
    assert [trust.version for trust in world.trusts] == [1, 2]
