"""Proposed objects over those in force."""

from __future__ import annotations

from agent.authz.overlay import overlaid, policies
from agent.kube.offline import read_documents
from agent.workload.model import Objects

from .samples import Manifest, api_policy, pod, policy, shop


def objects(*documents: Manifest) -> Objects:
    return read_documents(("test", document) for document in documents)


def titles(found: Objects) -> set[str]:
    return {item.title for item in policies(found)}


LIVE = objects(*shop(*api_policy("web")))


def test_takes_the_place() -> None:
    """One of the same name is replaced, the others stay."""
    proposed = objects(policy("Server", "shop/api", podSelector={}, port=81))
    merged = overlaid(LIVE, proposed)
    assert titles(merged) == titles(LIVE)
    assert [server.spec.port for server in merged.linkerd.servers] == [81]
    assert merged.workloads == LIVE.workloads


def test_is_added() -> None:
    """A new one comes beside them."""
    merged = overlaid(LIVE, objects(policy("Server", "shop/b", podSelector={}, port=1)))
    assert titles(merged) == {*titles(LIVE), "Server shop/b"}


def test_prune() -> None:
    """Policies that are not proposed are gone, pods are not."""
    proposed = objects(policy("Server", "shop/b", podSelector={}, port=1))
    merged = overlaid(LIVE, proposed, prune=True)
    assert titles(merged) == {"Server shop/b"}
    assert merged.workloads == LIVE.workloads


def test_a_pod_from_a_repository() -> None:
    """It has new labels, and runs where it runs."""
    merged = overlaid(LIVE, objects(pod("shop/api", tier="back")))
    (api,) = (each for each in merged.workloads if each.key == "shop/api")
    assert api.labels["tier"] == "back"
    assert [str(ip) for ip in api.addresses] == ["10.0.2.1", "fd00::2:1"]
