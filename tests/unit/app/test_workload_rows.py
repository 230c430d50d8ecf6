"""One row for each pod, with its state and the reason."""

from __future__ import annotations

from dataclasses import replace

from agent.app.workload_rows import workloads
from agent.identity.spiffe import TrustDomain
from agent.status.documents import Workload as Row
from agent.workload.model import Namespace, Objects, Workload
from agent.workload.registry import MESH_LABEL, Registry
from tests.unit.workload.samples import DISABLED, pod

TD = TrustDomain("td")
SHOP = Namespace("shop", {MESH_LABEL: "enabled"})


def rows(*pods: Workload, captured: set[str], waiting: dict[str, str]) -> list[Row]:
    view = Registry("n1", TD).apply(Objects(workloads=pods, namespaces=(SHOP,)))
    document = workloads(view, "n1", TD, captured, waiting)
    assert sum(document["counts"].values()) == len(document["workloads"])
    return document["workloads"]


def row(one: Workload, *others: Workload, captured: bool = False, why: str = "") -> Row:
    taken = {one.uid} if captured else set()
    found = rows(one, *others, captured=taken, waiting={one.uid: why} if why else {})
    (mine,) = [each for each in found if each["uid"] == one.uid]
    return mine


def test_a_captured_pod() -> None:
    found = row(pod("shop/web", "10.0.0.1"), captured=True)
    assert (found["state"], found["reason"]) == ("captured", None)
    assert found["identity"] == "spiffe://td/ns/shop/sa/default"


def test_one_that_could_not_be_captured() -> None:
    found = row(pod("shop/web", "10.0.0.1"), why="port 15001 is taken")
    assert (found["state"], found["reason"]) == ("waiting", "port 15001 is taken")


def test_one_without_a_known_namespace() -> None:
    found = row(pod("shop/web", "10.0.0.1", netns=None))
    assert found["state"] == "waiting"
    assert "no network namespace is known" in (found["reason"] or "")


def test_one_whose_address_is_anothers() -> None:
    other = pod("shop/api", "10.0.0.1")
    found = row(pod("shop/web", "10.0.0.1"), other, captured=True)
    assert found["state"] == "captured"
    assert "10.0.0.1 belongs to Pod shop/api" in (found["reason"] or "")


def test_one_whose_namespace_is_anothers() -> None:
    first = replace(pod("shop/api", "10.0.0.1"), netns="/run/netns/x")
    second = replace(pod("shop/web", "10.0.0.2"), netns="/run/netns/x")
    found = row(second, first)
    assert found["state"] == "waiting"
    assert "belongs to Pod shop/api" in (found["reason"] or "")


def test_those_outside() -> None:
    """Each with its own reason."""
    for one, why in (
        (pod("shop/a", host_network=True), "host's network"),
        (pod("shop/b", static=True), "static pod"),
        (pod("shop/c", labels=DISABLED), f"{MESH_LABEL} is disabled"),
        (pod("bank/d", labels={}), "neither it nor its namespace"),
    ):
        found = row(one)
        assert found["state"] == "outside"
        assert why in (found["reason"] or "")
        assert found["identity"] is None


def test_those_of_other_nodes() -> None:
    assert row(pod("shop/web", "10.0.0.1", node="n2"))["state"] == "remote"
    far = pod("bank/d", node="n2", labels={})
    assert row(far)["state"] == "outside"
