"""One question, one answer, with the object that decided."""

from __future__ import annotations

import pytest

from agent.authz.check import Answer, check
from agent.authz.party import clients, servers

from .samples import api_policy, pod, shop, spiffe, survey


def ask(source: str, to: str = "api", port: int = 80, *more: object) -> list[Answer]:
    cluster = survey(shop(*api_policy("web")))
    (server,) = servers(to, port, cluster)
    return [
        a for client in clients(source, cluster) for a in check(client, server, cluster)
    ]


def test_allowed() -> None:
    """From each address of the pod that can get there."""
    answers = ask("web")
    assert [str(a.address) for a in answers] == ["10.0.1.1", "fd00::1:1"]
    assert all(a.verdict.allowed for a in answers)
    assert answers[0].verdict.rule == "AuthorizationPolicy shop/api"


def test_families() -> None:
    """A pod's IPv4 address says nothing about a destination in IPv6."""
    answers = ask("web", "fd00::2:1")
    assert [str(a.address) for a in answers] == ["fd00::1:1"]


@pytest.mark.parametrize("source", ["batch", "outsider", "192.0.2.1", spiffe("new")])
def test_denied(source: str) -> None:
    """Whoever is not authorized; the Server said so."""
    answers = ask(source)
    assert not any(a.verdict.allowed for a in answers)
    assert {a.verdict.rule for a in answers} == {"Server shop/api"}


def test_outside_the_mesh() -> None:
    """Nobody judges there."""
    (answer, *_) = ask("web", "outsider", 22)
    assert answer.verdict.allowed
    assert "not in the mesh" in answer.verdict.reason


def test_itself() -> None:
    """A pod's own loopback is its own."""
    assert all(a.verdict.allowed for a in ask("api"))


def test_the_agents_ports() -> None:
    """Closed, whatever policy says."""
    (answer, *_) = ask("web", "api", 15008)
    assert not answer.verdict.allowed
    assert "belongs to the agent" in answer.verdict.reason


def test_pods_without_an_address() -> None:
    """As in a repository: they are taken to be somewhere in the cluster's networks."""
    documents = shop(pod("shop/new"), *api_policy(cidr="10.0.0.0/8"))
    cluster = survey(documents)
    (server,) = servers("api", 22, cluster)
    (client,) = clients("new", cluster)
    (answer,) = check(client, server, cluster)
    assert answer.address is None
    assert answer.verdict.allowed
