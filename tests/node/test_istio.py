"""Istio's policy kinds in a directory of manifests, with real traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.demo.calls import curl, url
from tests.demo.stage import SHOP, Stage
from tests.lab import system
from tests.lab.manifests import Manifest
from tests.lab.node import Document

pytestmark = pytest.mark.slow

ENFORCED_SECONDS = 10.0
FILE = "istio"


@pytest.fixture
def enforce(world: Stage) -> Iterator[Callable[..., None]]:
    """Put Istio's objects in force at pod `open`, which lets everybody in."""

    def write(*objects: Manifest) -> None:
        world.directory.write(FILE, *objects)

    yield write
    if (world.directory.path / f"{FILE}.yaml").exists():
        world.directory.remove(FILE)
    system.wait_until(lambda: _istio(world) is None, "no policy", ENFORCED_SECONDS)


def test_an_allow_a_deny_and_strict(world: Stage, enforce: Callable[..., None]) -> None:
    """Who is let in and who is not changes with the objects; each no has its object."""
    assert _serves(world, "web")
    assert _serves(world, "batch")
    assert _serves(world, "outsider")

    enforce(_allow("web"))
    _wait_until_refused(world, "batch", "AuthorizationPolicy shop/open")
    assert _serves(world, "web")
    assert not _serves(world, "outsider")

    enforce(_deny("batch"))
    system.wait_until(lambda: _serves(world, "outsider"), "plain", ENFORCED_SECONDS)
    _wait_until_refused(world, "batch", "AuthorizationPolicy shop/open")
    assert _serves(world, "web")

    enforce(_strict())
    _wait_until_refused(world, "outsider", "PeerAuthentication shop/open")
    assert _serves(world, "web")
    assert _serves(world, "batch")


def _serves(world: Stage, client: str) -> bool:
    return curl(world.pods[client], url(world.pods["open"].address.v4)).served


def _wait_until_refused(world: Stage, client: str, by: str) -> None:
    """Until a client is not served, and the agent names the object."""
    system.wait_until(
        lambda: not _serves(world, client), f"{client} refused", ENFORCED_SECONDS
    )

    def told() -> Document | None:
        for each in world.agents["n2"].ask("connections")["recent"]:
            mine = each["destination"]["workload"] == "shop/open"
            if mine and each["outcome"] == "refused" and by in (each["rule"] or ""):
                found: Document = each
                return found
        return None

    refusal = system.wait_until(told, f"a refusal by {by}", ENFORCED_SECONDS)
    assert refusal["reason"]


def _istio(world: Stage) -> Document | None:
    policies = world.agents["n2"].ask("policies")["policies"]
    (found,) = [each for each in policies if each["workload"] == "shop/open"]
    istio: Document | None = found["istio"]
    return istio


def _policy(kind: str, **spec: object) -> Manifest:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": "open", "namespace": SHOP},
        "spec": {"selector": {"matchLabels": {"app": "open"}}, **spec},
    }


def _rule(account: str) -> Manifest:
    return {"from": [{"source": {"serviceAccounts": [account]}}]}


def _allow(account: str) -> Manifest:
    return _policy("AuthorizationPolicy", rules=[_rule(account)])


def _deny(account: str) -> Manifest:
    return _policy("AuthorizationPolicy", action="DENY", rules=[_rule(account)])


def _strict() -> Manifest:
    return _policy("PeerAuthentication", mtls={"mode": "STRICT"})
