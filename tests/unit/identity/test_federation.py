"""Foreign bundles stay current, and what was good stays when nothing newer comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from agent.identity.bundle import Bundle
from agent.identity.bundle_endpoint import BundleUnavailable
from agent.identity.federated import FederatedDomain
from agent.identity.federation import Federation
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.spiffe_bundle import SpiffeBundle, format_document
from agent.recovery import LIMIT_SECONDS
from tests.unit.identity.parts import VirtualClock, anchor_at, until

PARTNER, THIRD = TrustDomain("partner.example"), TrustDomain("third.example")
SERVER = SpiffeId.parse("spiffe://partner.example/bundle")
URL = "https://partner.example/bundle"


def bundle(domain: TrustDomain = PARTNER, serial: int = 1) -> Bundle:
    return Bundle.parse(domain, anchor_at(serial=serial, td=domain).certificate_pem)


OLD, NEW = bundle(serial=1), bundle(serial=2)


@dataclass(slots=True, eq=False)
class Endpoint:
    """Answers what it is told to, and remembers who asked when under which anchors."""

    answer: bytes | None = None
    asked: list[tuple[float, Bundle | None]] = field(default_factory=list)
    seconds: float = 0
    """How long a request takes that is not answered."""

    async def __call__(self, domain: FederatedDomain, under: Bundle | None) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append((trio.current_time(), under))
        if self.answer is None:
            await trio.sleep(self.seconds)
            raise BundleUnavailable(f"{domain.url}: no answer")
        return self.answer

    def publish(self, told: Bundle, sequence: int, hint_seconds: int = 60) -> None:
        hint = timedelta(seconds=hint_seconds)
        self.answer = format_document(SpiffeBundle(told, sequence, hint))


async def read(domain: FederatedDomain) -> bytes:
    """Without a thread: virtual time does not wait for those."""
    await trio.lowlevel.checkpoint()
    assert domain.file is not None
    try:
        return domain.file.read_bytes()
    except OSError as error:
        raise BundleUnavailable(f"{domain.file}: {error.strerror}") from error


@asynccontextmanager
async def federation(
    *domains: FederatedDomain, endpoint: Endpoint, known: tuple[Bundle, ...] = ()
) -> AsyncIterator[tuple[Federation, list[tuple[Bundle, ...]]]]:
    told: list[tuple[Bundle, ...]] = []
    kept = Federation(
        domains,
        told.append,
        known=known,
        read=read,
        fetch=endpoint,
        clock=VirtualClock(),
        random=lambda: 0.5,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(kept.run)
        yield kept, told
        nursery.cancel_scope.cancel()


WEB = FederatedDomain(PARTNER, url=URL)


async def test_follows_the_endpoint(autojump_clock: trio.abc.Clock) -> None:
    """Asked again at every refresh hint; told once for each change."""
    endpoint = Endpoint()
    endpoint.publish(OLD, 1)
    async with federation(WEB, endpoint=endpoint) as (kept, told):
        await trio.sleep(130)
        assert told == [(), (OLD,)]
        endpoint.publish(NEW, 2)
        await trio.sleep(60)
        assert told == [(), (OLD,), (NEW,)]
    moments = [moment for moment, _ in endpoint.asked]
    assert moments == [moments[0] + 60 * n for n in range(len(moments))]
    assert kept.bundles == (NEW,)


async def test_the_last_good_one_stays(autojump_clock: trio.abc.Clock) -> None:
    """An endpoint that is away, or talks nonsense, or is older, changes nothing."""
    endpoint = Endpoint()
    endpoint.publish(NEW, 5)
    async with federation(WEB, endpoint=endpoint) as (kept, told):
        await trio.sleep(10)
        for bad in (None, b"{}", format_document(SpiffeBundle(OLD, 4))):
            endpoint.answer = bad
            await trio.sleep(60)
            (standing,) = kept.report()
            assert standing.problem
            assert kept.bundles == (NEW,)
        endpoint.publish(NEW, 5)
        await trio.sleep(60)
        (standing,) = kept.report()
        assert standing.problem is None
    assert told == [(), (NEW,)]


async def test_an_earlier_run_helps(autojump_clock: trio.abc.Clock) -> None:
    """What the last process knew holds while the endpoint is away."""
    endpoint = Endpoint()
    async with federation(WEB, endpoint=endpoint, known=(OLD,)) as (kept, told):
        await trio.sleep(30)
        assert kept.bundles == (OLD,)
        assert told == [(OLD,)]
        endpoint.publish(NEW, 1)
        await trio.sleep(200)
        assert told == [(OLD,), (NEW,)]


async def test_nobody_elses_bundle_is_kept(autojump_clock: trio.abc.Clock) -> None:
    """A domain that is not federated any more is not trusted from memory."""
    async with federation(endpoint=Endpoint(), known=(OLD,)) as (kept, told):
        await trio.sleep(30)
    assert kept.bundles == ()
    assert told == [()]


async def test_files(autojump_clock: trio.abc.Clock, tmp_path: Path) -> None:
    """Known before `run` has started; a broken one leaves the last good in force."""
    file = tmp_path / "partner.pem"
    file.write_bytes(OLD.pem)
    domain = FederatedDomain(PARTNER, file=file)
    async with federation(domain, endpoint=Endpoint()) as (kept, told):
        assert told == [(OLD,)]
        file.write_bytes(b"-----BEGIN")
        await trio.sleep(6)
        assert kept.bundles == (OLD,)
        file.unlink()
        await trio.sleep(6)
        (standing,) = kept.report()
        assert "No such file" in (standing.problem or "")
        file.write_bytes(format_document(SpiffeBundle(NEW, 1)))
        await trio.sleep(6)
        assert told == [(OLD,), (NEW,)]


async def test_the_latest_anchors_prove_the_endpoint(
    autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    """The file for the first time, then what the endpoint said (Federation 5.2.2.4)."""
    file = tmp_path / "partner.pem"
    file.write_bytes(OLD.pem)
    domain = FederatedDomain(
        PARTNER, file=file, url=URL, profile="https_spiffe", endpoint_id=SERVER
    )
    endpoint = Endpoint()
    endpoint.publish(NEW, 1)
    async with federation(domain, endpoint=endpoint):
        await trio.sleep(70)
    assert [under for _, under in endpoint.asked] == [OLD, NEW]


async def test_a_third_domain_serves(
    autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    """An endpoint of another domain is proven by that domain's bundle."""
    file = tmp_path / "third.pem"
    third = bundle(THIRD)
    file.write_bytes(third.pem)
    broker = SpiffeId.parse("spiffe://third.example/bundle")
    domain = FederatedDomain(
        PARTNER, url=URL, profile="https_spiffe", endpoint_id=broker
    )
    endpoint = Endpoint()
    endpoint.publish(NEW, 1)
    both = (domain, FederatedDomain(THIRD, file=file))
    async with federation(*both, endpoint=endpoint) as (kept, _):
        await trio.sleep(10)
        assert kept.bundles == (NEW, third)
    assert endpoint.asked[0][1] == third


async def test_another_domains_bundle_is_refused(
    autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    """A bundle whose anchors name another domain is not taken for this one."""
    file = tmp_path / "wrong.pem"
    file.write_bytes(bundle(THIRD).pem)
    domain = FederatedDomain(PARTNER, file=file)
    async with federation(domain, endpoint=Endpoint()) as (kept, _):
        (standing,) = kept.report()
        assert "third.example" in (standing.problem or "")
        assert kept.bundles == ()


@pytest.mark.parametrize(
    ("hint_seconds", "asked"), [(1, 86_400 / 10 / 24), (100_000_000, 1)]
)
async def test_hints_have_bounds(
    autojump_clock: trio.abc.Clock, hint_seconds: int, asked: int
) -> None:
    """Neither a busy loop nor a bundle for ever: in an hour, and in a day more."""
    endpoint = Endpoint()
    endpoint.publish(OLD, 1, hint_seconds)
    async with federation(WEB, endpoint=endpoint):
        await trio.sleep(3599)
        assert len(endpoint.asked) == asked
        endpoint.publish(OLD, 1, 86_400)
        await trio.sleep(86_400)
    assert len(endpoint.asked) == asked + 1


@pytest.mark.parametrize("seconds", [0, LIMIT_SECONDS])
@pytest.mark.parametrize("known", [True, False])
async def test_an_endpoint_that_returns_is_read_within_ten_seconds(
    autojump_clock: trio.abc.Clock, known: bool, seconds: float
) -> None:
    """However long it was away, a known bundle or none, and where requests hang."""
    endpoint = Endpoint(seconds=seconds)
    domain = FederatedDomain(PARTNER, url=URL)
    if known:
        endpoint.publish(OLD, 1, hint_seconds=300)
    async with federation(domain, endpoint=endpoint) as (kept, _):
        await trio.sleep(1)
        endpoint.answer = None
        await trio.sleep(3600)
        before = len(endpoint.asked)
        assert before < 3600 / 4
        await until(lambda: len(endpoint.asked) > before)
        endpoint.publish(NEW, 2)
        await trio.sleep(10)
        assert kept.bundles == (NEW,)
