"""What is wrong with a policy stands in its status, once and as long as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from agent.kube import condition_writer
from agent.kube.client import ApiFailed
from agent.kube.condition_writer import ConditionWriter
from agent.kube.conditions import (
    CONDITION,
    MAX_MESSAGE,
    Finding,
    Standing,
    correction,
    standing_of,
)
from agent.kube.failure import Failure, FailureKind
from agent.kube.resources import Served
from agent.kube.store import Store
from agent.kube.trim import policy
from agent.kube.watch import Item, Key, Listed
from agent.policy.problem import Problem

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SERVERS = Served("policy.linkerd.io", "v1beta1", "servers", "Server")
PATH = "/apis/policy.linkerd.io/v1beta1/namespaces/shop/servers/api"
THEIRS = {"type": "ZtunnelAccepted", "status": "True"}
WRONG = Problem("Server shop/api", "spec.port", "no pod has it")


def server(status: object = None, port: int = 80) -> Item:
    document = {
        "apiVersion": "policy.linkerd.io/v1beta1",
        "kind": "Server",
        "metadata": {"name": "api", "namespace": "shop", "generation": 3},
        "spec": {"podSelector": {}, "port": port},
        "status": status,
    }
    return Item(Key("shop", "api"), "u", 7, json.dumps(document).encode())


def found(*conditions: Mapping[str, Any], faults: tuple[Problem, ...] = ()) -> Finding:
    return Finding("Server shop/api", Standing(PATH, "7", 3, conditions), faults)


def ours(**changes: Any) -> dict[str, Any]:
    return {
        "type": CONDITION,
        "status": "False",
        "reason": "NotWhollyEnforced",
        "message": "spec.port: no pod has it",
        "observedGeneration": 3,
        "lastTransitionTime": "2025-01-01T00:00:00Z",
    } | changes


class TestWhatIsKnown:
    def test_path_revision_generation_and_conditions(self) -> None:
        """All that a patch needs."""
        status = {"conditions": [THEIRS, "garbage"], "observedGeneration": 1}
        assert standing_of(server(status), SERVERS) == Standing(PATH, "7", 3, (THEIRS,))

    @pytest.mark.parametrize("status", [None, 7, {"conditions": {}}, "x", []])
    def test_a_status_of_any_shape(self, status: object) -> None:
        """Is no reason to say nothing."""
        standing = standing_of(server(status), SERVERS)
        assert standing is not None
        assert standing.conditions == ()

    def test_what_is_no_object(self) -> None:
        """Has nowhere to write to."""
        assert standing_of(Item(Key("", ""), "", 1, b"["), SERVERS) is None

    def test_of_each_policy_in_a_store(self) -> None:
        """By the title that problems have, with why it cannot be read."""
        store = Store(policy)
        store.apply(Listed((server(),)), SERVERS)
        (good,) = store.findings
        assert (good.title, good.faults) == ("Server shop/api", ())
        store = Store(policy)
        store.apply(Listed((server(port=0),)), SERVERS)
        (bad,) = store.findings
        assert bad.title == "Server shop/api"
        assert [fault.field for fault in bad.faults] == ["spec.port"]


class TestCorrection:
    def patched(self, finding: Finding, *problems: Problem) -> Any:
        body = correction(finding, problems, NOW)
        return None if body is None else json.loads(body)

    def test_nothing_wrong_is_nothing_to_say(self) -> None:
        """Nobody writes into an object that nobody complained of."""
        assert self.patched(found(THEIRS)) is None

    def test_what_is_wrong(self) -> None:
        """Beside the conditions of others, over the revision that was read."""
        assert self.patched(found(THEIRS), WRONG) == {
            "metadata": {"resourceVersion": "7"},
            "status": {
                "conditions": [THEIRS, ours(lastTransitionTime="2026-01-02T03:04:05Z")]
            },
        }

    def test_what_stands_there_already(self) -> None:
        """Is not written again, whoever wrote it."""
        assert self.patched(found(ours()), WRONG) is None

    def test_something_else_that_is_wrong(self) -> None:
        """Since when it is not accepted does not change by that."""
        patch = self.patched(found(ours(message="other")), WRONG)
        assert patch["status"]["conditions"] == [ours()]

    def test_put_right(self) -> None:
        """Is said, once."""
        patch = self.patched(found(ours()))
        (condition,) = patch["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == ("True", "Accepted")
        assert self.patched(found(condition)) is None

    def test_without_effect(self) -> None:
        """Accepted, with a message; which goes when the policy has an effect."""
        warning = Problem(WRONG.object, "spec.podSelector", "matches no pod")
        body = correction(found(THEIRS), (), NOW, [warning])
        assert body is not None
        _, condition = json.loads(body)["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == ("True", "WithoutEffect")
        assert condition["message"] == "spec.podSelector: matches no pod"
        assert correction(found(condition), (), NOW, [warning]) is None

        (after,) = self.patched(found(condition))["status"]["conditions"]
        assert (after["reason"], after["message"]) == ("Accepted", "")
        assert after["lastTransitionTime"] == condition["lastTransitionTime"]

    def test_wrong_and_without_effect(self) -> None:
        """Not accepted; both are in the message."""
        warning = Problem(WRONG.object, "spec.podSelector", "matches no pod")
        body = correction(found(), [WRONG], NOW, [warning])
        assert body is not None
        (condition,) = json.loads(body)["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == (
            "False",
            "NotWhollyEnforced",
        )
        assert condition["message"].endswith("; spec.podSelector: matches no pod")

    def test_unreadable(self) -> None:
        """Says so, and what stays in force."""
        patch = self.patched(found(faults=(WRONG, Problem("", "", "it stays"))))
        (condition,) = patch["status"]["conditions"]
        assert condition["reason"] == "Unreadable"
        assert condition["message"] == "spec.port: no pod has it; it stays"

    def test_a_long_message(self) -> None:
        """Has an end."""
        patch = self.patched(found(), *[WRONG] * 1000)
        (condition,) = patch["status"]["conditions"]
        assert len(condition["message"]) == MAX_MESSAGE


class Api:
    """Takes patches, or fails."""

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.sent: list[str] = []

    async def send(self, method: str, path: str, body: bytes, kind: str = "") -> bytes:
        assert (method, kind) == ("PATCH", "application/merge-patch+json")
        await trio.lowlevel.checkpoint()
        self.sent.append(path)
        if self.failure:
            raise ApiFailed(self.failure)
        return b"{}"


async def run(
    api: Api, seconds: float, problems: list[Problem] | None
) -> ConditionWriter:
    writer = ConditionWriter(
        api, lambda: [found()], chance=lambda: 0.5, clock=lambda: NOW
    )
    if problems is not None:
        writer.judged(problems)
    with trio.move_on_after(seconds):
        await writer.run()
    return writer


async def test_written_in_its_turn(autojump_clock: MockClock) -> None:
    """To the status alone; not before control has said what is wrong."""
    api = Api()
    await run(api, 60, None)
    assert api.sent == []
    await run(api, 2.5 * condition_writer.PAUSE_SECONDS, [WRONG])
    assert api.sent == [f"{PATH}/status"]


async def test_without_effect_in_two_looks(autojump_clock: MockClock) -> None:
    """In a rollout there is no pod for a moment; that is not written."""
    api, warning = Api(), Problem(WRONG.object, "spec.podSelector", "matches no pod")
    said = iter([[warning], [], [warning], [warning], []])

    async def advice() -> list[Problem]:
        return next(said)

    writer = ConditionWriter(
        api, lambda: [found()], chance=lambda: 0.5, clock=lambda: NOW
    )
    writer.judged([])
    writer.advise(advice)
    with trio.move_on_after(2 * 3.5 * condition_writer.PAUSE_SECONDS):
        await writer.run()
    assert api.sent == []
    with trio.move_on_after(2 * 1.5 * condition_writer.PAUSE_SECONDS):
        await writer.run()
    assert api.sent == [f"{PATH}/status"]


async def test_a_right_that_is_missing(autojump_clock: MockClock) -> None:
    """Is known, and tried again."""
    api = Api()
    api.failure = Failure(FailureKind.FORBIDDEN, "no")
    writer = await run(api, 5 * condition_writer.PAUSE_SECONDS, [WRONG])
    assert len(api.sent) == 2
    assert "does not permit it" in writer.fault


@pytest.mark.parametrize("kind", [FailureKind.ABSENT, FailureKind.CONFLICT])
async def test_written_meanwhile_or_without_a_status(
    autojump_clock: MockClock, kind: FailureKind
) -> None:
    """Is no fault."""
    api = Api()
    api.failure = Failure(kind, "no")
    writer = await run(api, 5 * condition_writer.PAUSE_SECONDS, [WRONG])
    assert writer.fault == ""
