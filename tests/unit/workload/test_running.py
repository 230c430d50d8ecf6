"""An authority signs for what runs, where it runs."""

from __future__ import annotations

import pytest

from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.workload.model import Workload
from agent.workload.running import Running
from tests.unit.workload.samples import pod

TD = TrustDomain("td")
WEB = SpiffeId.for_workload(TD, "shop", "web")


def runs(*pods: Workload, node: str = "n1", identity: SpiffeId = WEB) -> bool:
    running = Running(TD)
    running.apply(pods)
    return running.runs_on(node, identity)


def web(**fields: object) -> Workload:
    return pod("shop/web-1", "10.1.0.1", account="web", **fields)  # type: ignore[arg-type]


def test_where_a_pod_of_it_runs() -> None:
    """There and nowhere else, as this account and no other, in this trust domain."""
    assert runs(web())
    assert not runs(web(), node="n2")
    assert not runs(web(), identity=SpiffeId.for_workload(TD, "shop", "api"))
    other = SpiffeId.for_workload(TrustDomain("other"), "shop", "web")
    assert not runs(web(), identity=other)
    assert not runs(web(), identity=SpiffeId.parse("spiffe://td/shop"))


@pytest.mark.parametrize(
    "gone",
    [web(host_network=True), web(static=True), web(finished=True), web(node="")],
)
def test_pods_that_need_no_certificate(gone: Workload) -> None:
    """On the host's network, static, finished, not scheduled yet."""
    assert not runs(gone)
    assert not runs(gone, node="")


def test_how_many_there_are() -> None:
    """A refusal says whose objects were looked at, and whether there are any."""
    running = Running(TrustDomain("td"))
    assert running.pods == 0
    running.apply([pod("shop/web"), pod("shop/late", node=""), pod("shop/api")])
    assert running.pods == 2
