"""Replicas agree on one state through a ConfigMap, whoever changes it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from agent.identity import operations
from agent.identity.authority import create_issuer
from agent.identity.clock import utc_now
from agent.identity.issuer_files import IssuerFiles
from agent.identity.sharing import Step
from agent.identity.spiffe import TrustDomain
from agent.identity.store import InvalidKeystore, Store
from agent.kube.client import ApiFailed, Query
from agent.kube.failure import Failure, FailureKind
from agent.kube.shared_state import (
    LOOK_SECONDS,
    InvalidSharedState,
    SharedState,
    parse_config_map,
)
from tests.unit.identity.parts import TD, anchor_at

HOME = "/api/v1/namespaces/podlock/configmaps"
ANCHOR = anchor_at(utc_now())


class ConfigMaps:
    """One ConfigMap of an API server, with its revisions."""

    def __init__(self) -> None:
        self.found: dict[str, Any] | None = None
        self.failure: Failure | None = None
        self.revision = 100

    async def get(self, path: str, query: Query = (), limit: int = 0) -> bytes:
        del query, limit
        await self._answer()
        assert path == f"{HOME}/podlock-trust"
        if self.found is None:
            raise ApiFailed(Failure(FailureKind.ABSENT, "none"))
        return json.dumps(self.found).encode()

    async def send(self, method: str, path: str, body: bytes, kind: str = "") -> bytes:
        del kind
        await self._answer()
        document = json.loads(body)
        known = self.found["metadata"]["resourceVersion"] if self.found else None
        assert path == (HOME if method == "POST" else f"{HOME}/podlock-trust")
        if document["metadata"].get("resourceVersion") != known:
            raise ApiFailed(Failure(FailureKind.CONFLICT, "changed"))
        self.revision += 1
        document["metadata"]["resourceVersion"] = str(self.revision)
        self.found = document
        return b"{}"

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise ApiFailed(self.failure)


def mounted(serial: int = 0xB1, *, anchors: bool = True) -> IssuerFiles:
    issuer = create_issuer(TD, ANCHOR, now=utc_now(), serial=serial)
    hint = ANCHOR.certificate_pem if anchors else None
    return IssuerFiles(Path("tls.crt"), issuer.certificate_pem, issuer.key, hint)


def replica(api: ConfigMaps, directory: Path) -> SharedState:
    return SharedState(api, Store(directory), "podlock/podlock-trust", TD)


def adopt(one: SharedState, serial: int) -> None:
    operations.adopt_issuer(one.store, mounted(serial), utc_now(), timedelta(days=1))


async def test_the_first_begins_and_the_next_takes_it(tmp_path: Path) -> None:
    """The anchors are there to be mounted, and no key is."""
    api = ConfigMaps()
    first, second = (replica(api, tmp_path / name) for name in ("a", "b"))
    await first.join(mounted())
    await second.join(mounted())
    assert first.store.load() == second.store.load()
    assert api.found is not None
    assert api.found["data"]["ca.crt"] == ANCHOR.certificate_pem.decode()
    assert "PRIVATE KEY" not in json.dumps(api.found)


async def test_a_change_anywhere_is_everywhere(tmp_path: Path) -> None:
    """A command on one replica's directory, then one on the other's."""
    api = ConfigMaps()
    one, other = (replica(api, tmp_path / name) for name in ("a", "b"))
    await one.join(mounted())
    await other.join(mounted())
    for changed, follower in ((one, other), (other, one)):
        operations.add_anchor(changed.store, None, utc_now())
        assert await changed.agree() is Step.PUBLISH
        assert await follower.agree() is Step.TAKE
        assert changed.store.load() == follower.store.load()
        assert await changed.agree() is await follower.agree() is Step.NOTHING
    assert len(one.store.load().roots) == 3


async def test_two_changes_at_once(tmp_path: Path) -> None:
    """One of them is first; the other replica takes it over its own."""
    api = ConfigMaps()
    one, other = (replica(api, tmp_path / name) for name in ("a", "b"))
    await one.join(mounted())
    await other.join(mounted())
    adopt(one, 0xB1)
    adopt(other, 0xB1)
    await one.agree()
    await other.agree()
    assert one.store.load() == other.store.load()
    # Also where both have read before either has written.
    operations.add_anchor(one.store, None, utc_now())
    operations.add_anchor(other.store, None, utc_now())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.agree)
        nursery.start_soon(other.agree)
    await one.agree()
    await other.agree()
    assert one.store.load() == other.store.load()


async def test_without_the_anchor_there_is_no_beginning(tmp_path: Path) -> None:
    """An issuer alone says nothing about whom to trust."""
    one = replica(ConfigMaps(), tmp_path / "a")
    with pytest.raises(InvalidKeystore, match=r"no ca\.crt is there"):
        await one.join(mounted(anchors=False))
    assert not one.store.exists


async def test_the_api_server_is_away_at_the_start(tmp_path: Path) -> None:
    """Whoever has been here goes on; a new one has nothing to go by."""
    api = ConfigMaps()
    one = replica(api, tmp_path / "a")
    await one.join(mounted())
    api.failure = Failure(FailureKind.AWAY, "refused")
    await one.join(mounted())
    with pytest.raises(ApiFailed):
        await replica(api, tmp_path / "b").join(mounted())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "API server's answer"),
        (b'{"metadata": {"resourceVersion": "1"}}', "expected authority.json"),
        (
            b'{"metadata": {"resourceVersion": "1"}, "data": {"authority.json": "{"}}',
            r"data\[authority.json\]",
        ),
    ],
)
def test_a_config_map_that_is_none_of_ours(body: bytes, field: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidSharedState, match=field):
        parse_config_map(body, TD)


async def test_of_another_trust_domain(tmp_path: Path) -> None:
    """Is not taken for ours."""
    api = ConfigMaps()
    await replica(api, tmp_path / "a").join(mounted())
    body = json.dumps(api.found).encode()
    with pytest.raises(InvalidSharedState, match="expected other"):
        parse_config_map(body, TrustDomain("other"))


async def test_what_fails_is_told_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """And what was in force stays so."""
    api, told = ConfigMaps(), list[tuple[str, str, str]]()
    one = replica(api, tmp_path / "a")
    await one.join(mounted())
    before = one.store.load()
    assert api.found is not None
    api.found["data"]["authority.json"] = "{}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, lambda *what: told.append(what))
        await trio.sleep(10 * LOOK_SECONDS)
        nursery.cancel_scope.cancel()
    ((kind, subject, text),) = told
    assert (kind, subject) == ("authority-not-shared", "podlock/podlock-trust")
    assert "authority.json" in text
    assert one.store.load() == before
