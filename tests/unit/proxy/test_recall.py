"""Tunnels under what does not count any more end, and no sooner than they must."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import trio
from trio.testing import MockClock

from agent.hbone.connection import ErrorCode
from agent.identity.authority import Authority, create_issuer
from agent.identity.bundle import Bundle
from agent.identity.chain import Chain
from agent.identity.crl import RevocationList, Revocations
from agent.identity.distrust import Distrust
from agent.identity.spiffe import SpiffeId
from agent.proxy.papers import Papers
from agent.proxy.recall import SHORT_SECONDS, Recall
from agent.proxy.tunnel import Tunnel
from tests.unit.identity.crls import crl
from tests.unit.identity.parts import API, BATCH, NOW, TD, anchor_at, credential_for

ANCHOR = anchor_at()
BUNDLE = Bundle.parse(TD, ANCHOR.certificate_pem)
ISSUERS = [create_issuer(TD, ANCHOR, now=NOW, serial=n) for n in (0xB1, 0xB2)]
OLD, NEW = (
    Authority.assemble(BUNDLE, each.certificate_pem, each.key, now=NOW)
    for each in ISSUERS
)
DEADLINE = 10.0


def chain(authority: Authority, identity: SpiffeId, serial: int) -> Chain:
    credential = credential_for(authority, identity, serial=serial)
    return Chain.of_credential(credential, BUNDLE)


OURS_OLD, OURS_NEW = chain(OLD, BATCH, 1), chain(NEW, BATCH, 2)
THEIRS_OLD, THEIRS_NEW = chain(OLD, API, 3), chain(NEW, API, 4)
TAINTED = Distrust(frozenset({OURS_OLD.issuer or ""}))


@dataclass(eq=False)
class FakeTunnel:
    """What a recall looks at, and what it did."""

    papers: Papers
    closed: str | None = None
    code: ErrorCode | None = None
    closed_at: float | None = None
    drained: bool = False
    ended_at: float | None = None
    """When streams were ended first, and from when they had to be."""
    opened_before: float | None = None

    def end_streams(self, opened_before: float, reason: str) -> None:
        if self.ended_at is None:
            self.ended_at, self.opened_before = trio.current_time(), opened_before

    def drain(self) -> None:
        self.drained = True

    def shut(self, reason: str, code: ErrorCode) -> None:
        self.closed, self.code, self.closed_at = reason, code, trio.current_time()


@dataclass
class Bench:
    tunnels: list[FakeTunnel] = field(default_factory=list)
    clean: bool = False
    told: list[str] = field(default_factory=list)
    recall: Recall = field(init=False)

    def __post_init__(self) -> None:
        self.recall = Recall(
            lambda: cast("list[Tunnel]", self.tunnels),
            self._has_clean,
            lambda _, reason: self.told.append(reason),
            DEADLINE,
        )

    def _has_clean(self, identity: SpiffeId) -> bool:
        assert identity == BATCH  # ours, whatever the peer's is
        return self.clean

    def add(self, ours: Chain, theirs: Chain) -> FakeTunnel:
        self.tunnels.append(FakeTunnel(Papers(ours, theirs)))
        return self.tunnels[-1]


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.recall.run)
        yield bench
        nursery.cancel_scope.cancel()


async def test_what_is_good_goes_on(autojump_clock: MockClock) -> None:
    """Another issuer's taint is no reason to touch a tunnel."""
    async with running() as bench:
        good = bench.add(OURS_NEW, THEIRS_NEW)
        bench.recall.judge(TAINTED)
        await trio.sleep(2 * DEADLINE)
    assert not good.drained
    assert good.closed is None


async def test_ends_once_there_is_a_clean_certificate(
    autojump_clock: MockClock,
) -> None:
    """New streams go elsewhere at once; those there are lose it as soon as they can."""
    async with running() as bench:
        ours = bench.add(OURS_OLD, THEIRS_NEW)
        began = trio.current_time()
        bench.recall.judge(TAINTED)
        assert ours.drained
        await trio.sleep(3)
        bench.clean = True
        await trio.sleep(0.1)
    assert ours.ended_at is not None
    assert 3 <= ours.ended_at - began < 3.1
    assert ours.opened_before == began - SHORT_SECONDS  # the younger ones may finish
    (told,) = bench.told
    assert "is under the tainted issuer" in told


async def test_the_peers_certificate(autojump_clock: MockClock) -> None:
    """Ours is clean: nothing to wait for."""
    async with running() as bench:
        bench.clean = True
        theirs = bench.add(OURS_NEW, THEIRS_OLD)
        bench.recall.judge(TAINTED)
        await trio.sleep(0.1)
    assert theirs.drained
    assert theirs.ended_at is not None


async def test_ends_at_the_deadline(autojump_clock: MockClock) -> None:
    """With no clean certificate to be had it ends all the same, and once."""
    async with running() as bench:
        ours = bench.add(OURS_OLD, THEIRS_OLD)
        began = trio.current_time()
        bench.recall.judge(TAINTED)
        await trio.sleep(5)
        bench.recall.judge(TAINTED)  # the news again: no new deadline
        await trio.sleep(10)
    assert ours.closed_at is not None
    assert DEADLINE <= ours.closed_at - began < DEADLINE + 0.1
    assert ours.code is ErrorCode.INADEQUATE_SECURITY
    assert bench.told == [ours.closed]


async def test_one_that_closed_by_itself(autojump_clock: MockClock) -> None:
    """Nothing more is done about it."""
    async with running() as bench:
        ours = bench.add(OURS_OLD, THEIRS_OLD)
        bench.recall.judge(TAINTED)
        ours.closed = "drained"
        await trio.sleep(2 * DEADLINE)
    assert ours.closed_at is None


async def test_a_revoked_certificate_ends_at_once(autojump_clock: MockClock) -> None:
    """Somebody else may hold its key."""
    async with running() as bench:
        listed = RevocationList.parse(crl(ISSUERS[0], 3))
        theirs, other = (
            bench.add(OURS_OLD, THEIRS_OLD),
            bench.add(OURS_OLD, THEIRS_NEW),
        )
        bench.recall.judge(Distrust(revocations=Revocations([listed])))
        assert "certificate 3 of" in (theirs.closed or "")
        assert "revoked at 2026-03-01" in (theirs.closed or "")
        assert other.closed is None
