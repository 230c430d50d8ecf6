"""A running authority takes over what changes on disk; what is bad changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import trio

from agent.errors import PodlockError
from agent.identity import operations, pem
from agent.identity.authority import CaPair, create_issuer
from agent.identity.certificate import fingerprint
from agent.identity.clock import utc_now
from agent.identity.following import Source, follow
from agent.identity.issuance import Issuance
from agent.identity.issuer_files import read_issuer_files
from agent.identity.key import PrivateKey
from agent.identity.nodes import NodeRecords
from agent.identity.report import TrustReport
from agent.identity.spiffe import TrustDomain
from agent.identity.store import InvalidKeystore, Store
from agent.log import logger
from tests.unit.identity.mount import Mount
from tests.unit.identity.parts import (
    TD,
    MemoryAudit,
    MemoryLedger,
    Registry,
    anchor_at,
    make_authority,
)

DAY = timedelta(days=1)


class World:
    """An authority whose issuer may come from mounted files, and what it tells."""

    def __init__(self, place: Path, now: datetime) -> None:
        self.store = Store(place / "ca")
        self.anchor = anchor_at(now)
        operations.initialize_under(self.store, TD, self.anchor.certificate_pem)
        self.mount = Mount(place / "issuer")
        self.now = now
        self.shared = False
        self.events: list[tuple[str, str]] = []

    def issuer(
        self, serial: int, under: CaPair | None = None, at: datetime | None = None
    ) -> CaPair:
        return create_issuer(
            TD, under or self.anchor, now=at or self.now, serial=serial
        )

    def put(self, issuer: CaPair, key: PrivateKey | None = None) -> None:
        self.mount.swap(issuer.certificate_pem, (key or issuer.key).pem)

    def source(self) -> Source:
        return Source(self.store, DAY, self.mount.directory, self.shared)

    def tell(self, kind: str, subject: str, text: str) -> None:
        del subject
        self.events.append((kind, text))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Issuance]:
        source = self.source()
        source.open()
        issuance = Issuance(
            source.authority,
            source.state.trust,
            Registry(),
            MemoryAudit(),
            MemoryLedger(),
            logger(),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, source, issuance, self.tell, 0.01)
            with trio.fail_after(30):
                yield issuance
            nursery.cancel_scope.cancel()


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, utc_now())
    made.put(made.issuer(0xB1))
    return made


async def until(predicate: Callable[[], bool]) -> None:
    while not predicate():  # noqa: ASYNC110 - what is waited for lies on a disk
        await trio.sleep(0.01)


async def until_told(world: World, wanted: str) -> str:
    await until(lambda: wanted in dict(world.events))
    return dict(world.events)[wanted]


async def test_a_swapped_issuer_signs_at_once(world: World) -> None:
    """And the one before is told to be retiring; its key was never copied."""
    async with world.running() as issuance:
        first = issuance.authority.issuer
        world.put(world.issuer(0xB2))
        await until_told(world, "authority")
        assert issuance.authority.issuer.serial_number == 0xB2
        assert len(issuance.trust.retiring) == 1
        assert first.serial_number == 0xB1
    assert list((world.store.directory / "keys").glob("*")) == []


@pytest.mark.parametrize(
    "fault",
    [
        "stranger",
        "expired",
        "stranger above",
        "other key",
        "no ca",
        "torn",
        "empty",
        "open key",
        "gone",
    ],
)
async def test_a_bad_issuer_changes_nothing(world: World, fault: str) -> None:
    """An event says what is wrong; a good one after it is taken over."""
    async with world.running() as issuance:
        before = (issuance.authority, issuance.trust)
        expected = put_bad(world, fault)
        text = await until_told(world, "authority-refused")
        assert expected in text
        assert "tls.key: " in text or "tls.crt: " in text
        assert text.endswith("what was in force stays so")
        assert (issuance.authority, issuance.trust) == before
        assert issuance.problems
        assert issuance.counts["refused:authority-change"] == 1
        world.put(world.issuer(0xB3))
        await until_told(world, "authority")
        assert issuance.authority.issuer.serial_number == 0xB3
        assert issuance.problems == ()


def put_bad(world: World, fault: str) -> str:
    """Swap something bad in; returns what will be said of it."""
    good = world.issuer(0xB2)
    match fault:
        case "stranger":
            world.put(world.issuer(0xB2, under=anchor_at(world.now, serial=0xC)))
            return "not signed by a trust anchor"
        case "expired":
            world.put(world.issuer(0xB2, at=world.now - timedelta(days=400)))
            return "tls.crt: issuer or its anchor: expired"
        case "stranger above":
            leaf = make_authority(world.now).issue_server(now=world.now, serial=1)
            first, *_ = pem.parse(leaf.chain_pem, pem.CERTIFICATE)
            above = pem.format_blocks([first], pem.CERTIFICATE)
            world.mount.swap(good.certificate_pem + above, good.key.pem)
            return "tls.crt: certificate 2 of 2: certificate: a signing certificate"
        case "other key":
            world.put(good, PrivateKey.generate())
            return "do not belong together"
        case "no ca":
            leaf = make_authority(world.now).issue_server(now=world.now, serial=1)
            world.mount.swap(leaf.chain_pem, leaf.key.pem)
            return "CA:TRUE"
        case "torn":
            world.mount.swap(good.certificate_pem[:200], good.key.pem)
            return "tls.crt: PEM line 1"
        case "empty":
            world.mount.swap(b"", good.key.pem)
            return "tls.crt: no certificate"
        case "open key":
            world.put(good)
            os.chmod(world.mount.directory / "tls.key", 0o444)
            return "tls.key: mode 0444"
        case _:
            (world.mount.directory / "..data").unlink()
            return "tls.crt: missing"


async def test_an_issuer_under_an_unknown_anchor_waits(world: World) -> None:
    """Until every node trusts its anchor; then it is taken over by itself."""
    new = anchor_at(world.now, serial=0xA2)
    records = NodeRecords(world.store.directory)
    async with world.running() as issuance:
        version = issuance.trust.version
        records.heard({}, TrustReport("n1", version), utc_now())
        operations.add_anchor(world.store, new.certificate_pem, utc_now())
        world.put(world.issuer(0xB2, under=new))
        text = await until_told(world, "authority-refused")
        assert f"n1: has version {version} of the trust, not {version + 1}" in text
        records.heard({}, TrustReport("n1", version + 1), utc_now())
        await until(lambda: issuance.authority.issuer.serial_number == 0xB2)
    assert [kind for kind, _ in world.events].count("authority-refused") == 1


async def test_commands_on_the_directory_are_followed(world: World) -> None:
    """Whoever watches hears of it; a corrupted file changes nothing."""
    async with world.running() as issuance:
        changes = issuance.watch()
        first = await anext(changes)
        operations.add_anchor(world.store, None, utc_now())
        second = await anext(changes)
        assert (second.version, len(second.bundle.anchors)) == (first.version + 1, 2)
        await changes.aclose()
        path = world.store.state_path
        good = path.read_bytes()
        path.write_bytes(b"{")
        await until_told(world, "authority-refused")
        assert issuance.trust == second
        path.write_bytes(good)
        await until(lambda: not issuance.problems)


async def test_nothing_signs_after_the_taint_of_all(world: World) -> None:
    """By force: the mounted issuer is tainted, and no other key is here."""
    async with world.running() as issuance:
        anchor = issuance.trust.bundle.anchors[0].fingerprint
        operations.taint(world.store, anchor, utc_now(), force=True)
        await until_told(world, "authority")
        assert issuance.trust.tainted == {anchor}
        with pytest.raises(PodlockError, match="no issuer is in force"):
            _ = issuance.authority


class TestStart:
    def test_needs_an_issuer_that_can_sign(self, world: World) -> None:
        """There is no other to go on with; the message names the file."""
        shutil.rmtree(world.mount.directory)
        with pytest.raises(InvalidKeystore, match=r"tls\.crt: missing"):
            world.source().open()

    def test_goes_on_with_a_key_of_its_own(self, world: World) -> None:
        """The mounted issuer was tainted, and the taint has made another."""
        world.source().open()
        mounted = world.store.load().issuer
        assert mounted is not None
        operations.add_anchor(world.store, None, utc_now())
        operations.taint(world.store, fingerprint(mounted), utc_now())
        source = world.source()
        source.open()
        assert "is tainted" in str(source.problem)
        assert source.authority is not None
        assert source.state.issuer not in {None, mounted}

    def test_of_another_trust_domain(self, world: World) -> None:
        """A directory that belongs to somebody else is not served."""
        source = world.source()
        source.open()
        source.require_trust_domain(TD)
        with pytest.raises(InvalidKeystore, match="expected other"):
            source.require_trust_domain(TrustDomain("other"))

    def test_an_expired_issuer_still_tells_whom_to_trust(self, tmp_path: Path) -> None:
        """So that what replaces it can be told; it signs nothing."""
        long_ago = utc_now() - timedelta(days=500)
        store = Store(tmp_path / "old")
        operations.initialize(store, TD, long_ago)
        source = Source(store, DAY)
        source.open()
        assert source.authority is not None
        with pytest.raises(PodlockError, match="expired"):
            source.authority.require_valid(utc_now())


def test_reads_one_version_of_a_mount(world: World) -> None:
    """Through the link once; ca.crt is there only where somebody put it."""
    issuer = world.issuer(0xB2)
    world.put(issuer)
    files = read_issuer_files(world.mount.directory)
    assert (files.chain_pem, files.key) == (issuer.certificate_pem, issuer.key)
    assert files.anchors_pem is None


class TestReplicas:
    """Another replica's kubelet may be quicker than ours."""

    @staticmethod
    def elsewhere(world: World, issuer: CaPair) -> None:
        """What comes of another replica having this issuer mounted."""
        with world.store.changing() as change:
            state = change.state.with_issuer(issuer.certificate_pem, utc_now())
            change.commit(state)

    async def test_goes_on_by_what_is_mounted(self, world: World) -> None:
        """It tells the trust that is in force, and that it waits for its files."""
        world.shared = True
        newer = world.issuer(0xB2)
        async with world.running() as issuance:
            version = issuance.trust.version
            self.elsewhere(world, newer)
            await until(lambda: issuance.trust.version == version + 1)
            assert issuance.authority.issuer.serial_number == 0xB1
            (problem,) = issuance.problems
            assert "signs by an older issuer until the kubelet" in problem
            world.put(newer)
            await until(lambda: issuance.authority.issuer.serial_number == 0xB2)
            await until(lambda: not issuance.problems)
            assert issuance.trust.version == version + 1

    async def test_starts_with_files_that_are_late(self, world: World) -> None:
        """The older issuer is not put back in force by a replica that starts."""
        world.shared = True
        async with world.running():
            pass
        newer = world.issuer(0xB2)
        self.elsewhere(world, newer)
        async with world.running() as issuance:
            assert issuance.authority.issuer.serial_number == 0xB1
            assert len(issuance.trust.retiring) == 1
            state = world.store.load()
            assert state.issuer_pem is not None
            assert state.issuer_pem == newer.certificate_pem

    async def test_signs_nothing_by_a_tainted_issuer(self, world: World) -> None:
        """And tells of the taint, which matters more than to sign."""
        world.shared = True
        async with world.running() as issuance:
            name = fingerprint(read_issuer_files(world.mount.directory).der)
            self.elsewhere(world, world.issuer(0xB2))
            operations.taint(world.store, name, utc_now())
            await until(lambda: issuance.trust.tainted == {name})
            with pytest.raises(PodlockError, match="no issuer is in force"):
                _ = issuance.authority
            world.put(world.issuer(0xB3))
            await until(lambda: not issuance.problems)
            assert issuance.authority.issuer.serial_number == 0xB3
