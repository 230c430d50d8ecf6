"""Two authorities federate by what Podlock itself serves and stores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio

from agent.addresses import SocketAddress
from agent.app.authority import RunningAuthority, open_authority
from agent.app.federation import keep_federated
from agent.config import resolve
from agent.identity.bundle import Bundle
from agent.identity.clock import utc_now
from agent.identity.federated import FederatedDomain
from agent.identity.federation import say_nothing
from agent.identity.reviewing import JoinTokens
from agent.identity.service import Settings, serve
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.token import TokenKey
from tests.unit.identity.parts import Registry, anchor_at, at_work, make_authority

PARTNER = TrustDomain("partner.example")
SERVER = SpiffeId.parse("spiffe://partner.example/podlock/identity")
LOOPBACK = SocketAddress(ip_address("127.0.0.1"), 0)
BUNDLE = Bundle.parse(PARTNER, anchor_at(utc_now(), td=PARTNER).certificate_pem)


@pytest.fixture
def ours(tmp_path: Path) -> RunningAuthority:
    config = resolve({"state_dir": str(tmp_path / "state"), "node": "n1"})
    return open_authority(config, Registry(), "embedded", create=True)


def federated(running: RunningAuthority) -> tuple[Bundle, ...]:
    return running.source.store.load().federated


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - a file, written by a thread
            await trio.sleep(0.01)


async def test_from_the_partners_identity_service(
    ours: RunningAuthority, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Its own endpoint, known by its own SPIFFE ID; a first bundle is all it takes."""
    theirs = make_authority(utc_now(), PARTNER)
    start = partial(
        serve,
        Settings(bind=LOOPBACK),
        at_work(theirs, clock=utc_now),
        JoinTokens(TokenKey(b"k" * 32), PARTNER),
    )
    address = await nursery.start(start)
    file = tmp_path / "partner.pem"
    file.write_bytes(theirs.bundle.pem)
    domain = FederatedDomain(
        PARTNER,
        file=file,
        url=f"https://{address}/v1/bundle/spiffe",
        profile="https_spiffe",
        endpoint_id=SERVER,
    )
    nursery.start_soon(keep_federated, [domain], ours, say_nothing)
    await until(lambda: federated(ours) == (theirs.bundle,))

    changed = await trio.to_thread.run_sync(ours.source.poll)
    assert changed
    assert ours.source.state.trust.federated == (theirs.bundle,)
    assert ours.source.state.version == 3
    nursery.cancel_scope.cancel()


async def test_what_was_learned_outlives_us(
    ours: RunningAuthority, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """It is in force while its place says nothing good, and goes with its setting."""
    file = tmp_path / "partner.pem"
    file.write_bytes(BUNDLE.pem)
    domain = FederatedDomain(PARTNER, file=file)
    told: list[str] = []

    def tell(kind: str, subject: str, text: str) -> None:
        told.append(f"{kind} {subject}: {text}")

    async def run_until(
        domains: list[FederatedDomain], end: Callable[[], bool]
    ) -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(keep_federated, domains, ours, tell)
            await until(end)
            inner.cancel_scope.cancel()

    await run_until([domain], lambda: federated(ours) == (BUNDLE,))
    await trio.to_thread.run_sync(ours.source.poll)
    file.write_bytes(b"nonsense")
    await run_until([domain], lambda: bool(told))
    assert federated(ours) == (BUNDLE,)
    assert told[0].startswith("federation-failed partner.example: ")
    assert "1 anchors that were good stay in force" in told[0]
    await run_until([], lambda: federated(ours) == ())
