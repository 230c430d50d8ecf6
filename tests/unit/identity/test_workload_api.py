"""Identity from a SPIFFE agent: its SVIDs and bundles, by the real protocol."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from agent.identity import workload_api
from agent.identity.authority import Authority
from agent.identity.certificate import fingerprint
from agent.identity.credential import Credential
from agent.identity.csr import make_csr
from agent.identity.key import PrivateKey
from agent.identity.renewer import Renewer
from agent.identity.rotation import CertificateState
from agent.identity.source import IdentityRefused, IdentityUnavailable
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust
from agent.identity.workload_api import NoSpiffePackage, WorkloadApi
from tests.lab.spiffe_agent import SpiffeAgent
from tests.unit.identity.parts import (
    API,
    BATCH,
    TD,
    anchor_at,
    authority_under,
    credential_for,
    ders,
    make_authority,
)

PARTNER = TrustDomain("partner.example")
THEIRS = make_authority(datetime.now(UTC), PARTNER)
SECONDS = 10.0

Watch = AsyncGenerator[Trust, None]


class Issued:
    """An authority, and what its SPIFFE agent hands out."""

    def __init__(self, agent: SpiffeAgent) -> None:
        self.agent = agent
        self.authority: Authority = make_authority(datetime.now(UTC))
        self.bundle = self.authority.bundle.anchors[0].der
        self.serial = 1

    def credential(self, who: SpiffeId, ago: timedelta = timedelta(0)) -> Credential:
        self.serial += 1
        now = datetime.now(UTC) - ago
        authority = make_authority(now) if ago else self.authority
        if ago:
            self.authority, self.bundle = authority, authority.bundle.anchors[0].der
        return credential_for(authority, who, now, self.serial)

    def push(self, *credentials: Credential, **federated: bytes) -> None:
        foreign = {name.replace("_", "."): der for name, der in federated.items()}
        self.agent.push([_raw(each) for each in credentials], self.bundle, foreign)


def _raw(credential: Credential) -> tuple[str, bytes, bytes]:
    key = credential.key.load().private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    return str(credential.svid.spiffe_id), b"".join(credential.chain_der), key


@pytest.fixture
def issued(tmp_path: Path) -> Iterator[Issued]:
    with SpiffeAgent(tmp_path / "agent.sock") as agent:
        yield Issued(agent)


def csr(who: SpiffeId) -> bytes:
    return make_csr(who, PrivateKey.generate())


async def following(watch: Watch) -> Trust:
    """The next word of the agent, within a generous time."""
    with trio.fail_after(SECONDS):
        return await anext(watch)


async def test_hands_out_what_it_was_given(issued: Issued) -> None:
    """Chain, key and bundle as the agent has them; the CSR only names the identity."""
    api, batch = issued.credential(API), issued.credential(BATCH)
    issued.push(api, batch)
    source = WorkloadApi(issued.agent.address, TD)
    async with aclosing(source.watch()) as watch:
        trust = await following(watch)
        signed = await source.sign(csr(BATCH))

    assert trust == Trust(1, issued.authority.bundle)
    assert (signed.chain_pem, signed.trust) == (batch.chain_pem, trust)
    assert signed.key is not None
    made = Credential.assemble(signed.chain_pem, signed.key)
    assert made.svid == batch.svid
    assert "PRIVATE" not in repr(signed)


async def test_follows_the_agent(issued: Issued) -> None:
    """A new SVID is handed out at once; only new anchors are a new trust."""
    issued.push(issued.credential(API))
    source = WorkloadApi(issued.agent.address, TD)
    async with aclosing(source.watch()) as watch:
        first = await following(watch)
        newer = issued.credential(API)
        issued.push(newer)
        issued.push(newer, partner_example=THEIRS.bundle.anchors[0].der)
        second = await following(watch)
        signed = await source.sign(csr(API))

    assert second == Trust(2, first.bundle, federated=(THEIRS.bundle,))
    assert signed.chain_pem == newer.chain_pem


async def test_another_issuer_retires_the_last(issued: Issued) -> None:
    """What is under the old one is to be replaced soon, as a rotated issuer's is."""
    anchor = anchor_at(datetime.now(UTC))
    old, new = (authority_under(anchor, datetime.now(UTC)) for _ in range(2))
    issued.bundle = old.bundle.anchors[0].der
    issued.push(*(credential_for(old, who, datetime.now(UTC)) for who in (API, BATCH)))
    source = WorkloadApi(issued.agent.address, TD)
    async with aclosing(source.watch()) as watch:
        assert (await following(watch)).retiring == frozenset()
        half = credential_for(new, API, datetime.now(UTC))
        issued.push(half, credential_for(old, BATCH, datetime.now(UTC)))
        issued.push(half, credential_for(new, BATCH, datetime.now(UTC)))
        trust = await following(watch)

    assert trust.version == 2
    assert trust.retiring == {fingerprint(ders(old.chain_pem)[0])}


async def test_waits_for_the_first_answer(issued: Issued) -> None:
    """A request that is faster than the agent waits for it."""
    source = WorkloadApi(issued.agent.address, TD)
    found: list[bytes] = []

    async def ask() -> None:
        found.append((await source.sign(csr(API))).chain_pem)

    async with trio.open_nursery() as nursery, aclosing(source.watch()) as watch:
        nursery.start_soon(ask)
        credential = issued.credential(API)
        issued.push(credential)
        await following(watch)
    assert found == [credential.chain_pem]


async def test_an_identity_that_is_not_registered(issued: Issued) -> None:
    """The refusal says which identities this process has."""
    issued.push(issued.credential(API))
    source = WorkloadApi(issued.agent.address, TD)
    async with aclosing(source.watch()) as watch:
        await following(watch)
        with pytest.raises(IdentityRefused, match=r"/sa/batch: .* only spiffe://.*api"):
            await source.sign(csr(BATCH))


async def test_one_that_is_due_is_not_given_twice(issued: Issued) -> None:
    """Where the agent has nothing newer, the renewer waits and does not spin."""
    issued.push(issued.credential(API, ago=timedelta(hours=20)))
    source = WorkloadApi(issued.agent.address, TD)
    async with aclosing(source.watch()) as watch:
        await following(watch)
        await source.sign(csr(API))
        with pytest.raises(IdentityRefused, match="no newer SVID"):
            await source.sign(csr(API))
        newer = issued.credential(API)
        issued.push(newer, partner_example=THEIRS.bundle.anchors[0].der)
        await following(watch)
        assert (await source.sign(csr(API))).chain_pem == newer.chain_pem


async def test_a_bad_answer_changes_nothing(issued: Issued) -> None:
    """No bundle of our own domain: the last good SVIDs and anchors stay."""
    good = issued.credential(API)
    issued.push(good)
    source = WorkloadApi(issued.agent.address, TD)
    async with aclosing(source.watch()) as watch:
        await following(watch)
        ours = issued.bundle
        theirs = credential_for(
            THEIRS, SpiffeId.for_workload(PARTNER, "a", "b"), datetime.now(UTC)
        )
        issued.bundle = THEIRS.bundle.anchors[0].der
        issued.push(theirs)
        issued.bundle = ours
        issued.push(good, partner_example=THEIRS.bundle.anchors[0].der)
        assert (await following(watch)).version == 2
        assert (await source.sign(csr(API))).chain_pem == good.chain_pem


async def test_another_trust_domain(issued: Issued) -> None:
    """An agent of another domain than the configured one is told by name."""
    issued.push(issued.credential(API))
    source = WorkloadApi(issued.agent.address, PARTNER)
    async with aclosing(source.watch()) as watch:
        with pytest.raises(IdentityUnavailable, match=r"no bundle of partner\.example"):
            await following(watch)


async def test_a_caller_that_nobody_knows(issued: Issued) -> None:
    """Not registered: the agent says so, and so do we."""
    issued.agent.deny()
    async with aclosing(WorkloadApi(issued.agent.address, TD).watch()) as watch:
        with pytest.raises(IdentityUnavailable, match="PERMISSION_DENIED"):
            await following(watch)


async def test_an_agent_that_goes(issued: Issued) -> None:
    """The stream ends with our error, what it gave stays, and the next one works."""
    credential = issued.credential(API)
    issued.push(credential)
    source = WorkloadApi(issued.agent.address, TD)
    async with aclosing(source.watch()) as watch:
        first = await following(watch)
        issued.agent.hang_up()
        with pytest.raises(IdentityUnavailable, match="ended"):
            await following(watch)
    assert (await source.sign(csr(API))).chain_pem == credential.chain_pem
    async with aclosing(source.watch()) as watch:
        assert await following(watch) == first


async def test_no_agent(tmp_path: Path) -> None:
    """Nobody at that path."""
    async with aclosing(WorkloadApi(f"unix://{tmp_path}/none", TD).watch()) as watch:
        with pytest.raises(IdentityUnavailable, match="does not exist"):
            await following(watch)


async def test_the_renewer_lives_on_it(issued: Issued) -> None:
    """All together: wanted identities get their certificates, with their own keys."""
    issued.push(issued.credential(API), issued.credential(BATCH))
    published: dict[SpiffeId, Credential] = {}
    both = trio.Event()

    def publish(credential: Credential) -> None:
        published[credential.svid.spiffe_id] = credential
        if len(published) == 2:
            both.set()

    source = WorkloadApi(issued.agent.address, TD)
    trusts: list[Trust] = []
    renewer = Renewer(source, TD, publish, trusts.append)
    renewer.set_wanted([API, BATCH])
    async with trio.open_nursery() as nursery:
        await nursery.start(renewer.run)
        with trio.fail_after(SECONDS):
            await both.wait()
        nursery.cancel_scope.cancel()
    assert set(published) == {API, BATCH}
    assert [trust.bundle for trust in trusts] == [issued.authority.bundle]


async def test_news_ends_a_pause_and_what_was_taken_back_is_used_no_more(
    issued: Issued,
) -> None:
    """An entry that comes late, one that is renewed early, and one that goes."""
    issued.push(issued.credential(API))
    published: list[tuple[SpiffeId, int]] = []
    taken: list[SpiffeId] = []

    def publish(credential: Credential) -> None:
        published.append((credential.svid.spiffe_id, credential.svid.serial))

    async def until(holds: Callable[[], bool]) -> None:
        with trio.fail_after(SECONDS):
            while not holds():  # noqa: ASYNC110
                await trio.sleep(0.01)

    source = WorkloadApi(issued.agent.address, TD)
    # A pause after a refusal would be longer than the test.
    renewer = Renewer(source, TD, publish, lambda _trust: None)
    renewer.on_taken = lambda identity, _why: taken.append(identity)
    source.on_news = renewer.heard
    renewer.set_wanted([API, BATCH])
    async with trio.open_nursery() as nursery:
        await nursery.start(renewer.run)
        refused = partial(_refusals, renewer, BATCH)
        await until(lambda: len(published) == 1 and bool(refused()))
        late, early = issued.credential(BATCH), issued.credential(API)
        issued.push(late, early)
        await until(lambda: len(published) == 3)
        assert set(published[1:]) == {
            (BATCH, late.svid.serial),
            (API, early.svid.serial),
        }
        issued.push(early)
        await until(lambda: bool(taken))
        assert taken == [BATCH]
        states = {each.identity: each.state for each in renewer.report()}
        assert states[BATCH] is CertificateState.PENDING
        nursery.cancel_scope.cancel()


def _refusals(renewer: Renewer, identity: SpiffeId) -> list[str]:
    report = renewer.report()
    return [e.last_error for e in report if e.identity == identity and e.last_error]


def test_the_package_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who configures it without the extra is told what to install."""
    workload_api.require_package()
    monkeypatch.setitem(sys.modules, "spiffe", None)
    with pytest.raises(NoSpiffePackage, match=r"podlock\[spire\]"):
        workload_api.require_package()
