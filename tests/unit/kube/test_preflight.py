"""Each finding says what to do, and one that is well says nothing more."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.findings import Finding, judge_clock
from agent.kube.client import ApiFailed
from agent.kube.failure import Failure, FailureKind
from agent.kube.preflight import Right, judge_right, look, rights
from agent.kube.resources import of_node

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DATE = "Fri, 02 Jan 2026 03:04:05 GMT"


class FakeApi:
    """Grants all but what is in `denied`."""

    def __init__(self, *denied: str, failure: Failure | None = None) -> None:
        self.denied = denied
        self.failure = failure

    async def date(self, path: str) -> str:
        if self.failure:
            raise ApiFailed(self.failure)
        return DATE

    async def send(self, method: str, path: str, body: bytes, kind: str = "") -> bytes:
        asked = json.loads(body)["spec"]["resourceAttributes"]
        allowed = f"{asked['verb']} {asked['resource']}" not in self.denied
        return json.dumps({"status": {"allowed": allowed}}).encode()


async def bad(api: FakeApi, now: datetime = NOW) -> list[Finding]:
    return [each for each in await look(api, of_node("n1"), now) if not each.is_well]


async def test_all_is_well() -> None:
    """Nothing to do."""
    assert await bad(FakeApi()) == []


async def test_a_right_that_is_missing() -> None:
    """Is named as a role has it."""
    (finding,) = await bad(FakeApi("list services"))
    assert finding.subject == "right to list services"
    assert "ClusterRole" in finding.advice


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (FailureKind.AWAY, "address"),
        (FailureKind.UNTRUSTED, "CA file"),
        (FailureKind.UNAUTHORIZED, "token file"),
        (FailureKind.GARBAGE, "see what"),
    ],
)
async def test_a_server_that_does_not_answer(kind: FailureKind, advice: str) -> None:
    """One finding, and not twenty that follow from it."""
    (finding,) = await bad(FakeApi(failure=Failure(kind, "why")))
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("date", "late", "well"),
    [
        (DATE, 0, True),
        (DATE, 119, True),
        (DATE, 121, False),
        (DATE, -300, False),
        (None, 0, False),
        ("yesterday", 0, False),
    ],
)
def test_clocks(date: str | None, late: int, well: bool) -> None:
    """Two minutes apart, either way, is what certificates bear."""
    assert (
        judge_clock("the server", date, NOW + timedelta(seconds=late)).is_well is well
    )


def test_rights_are_what_the_sources_use() -> None:
    """Each once, though pods are watched twice; and what is written."""
    found = [str(right) for right in rights(of_node("n1"))]
    assert len(found) == len(set(found))
    assert {
        "list pods",
        "watch endpointslices.discovery.k8s.io",
        "list servers.policy.linkerd.io",
        "patch pods/status",
        "create events",
        "patch authorizationpolicies/status.security.istio.io",
    } <= set(found)


def test_a_subresource_is_asked_for_as_one() -> None:
    """`pods/status` is not a resource of that name."""
    spec = json.loads(Right("patch", "", "pods/status").document)["spec"]
    attributes = spec["resourceAttributes"]
    assert (attributes["resource"], attributes["subresource"]) == ("pods", "status")


def test_an_answer_that_is_none() -> None:
    """Is not taken for a yes."""
    assert not judge_right(Right("list", "", "pods"), b"<html>").is_well
