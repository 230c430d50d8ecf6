"""What is wrong with an agent is listed, and tells a script by its exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.findings import Finding
from agent.status import client
from tests.unit.status.samples import status

from .conftest import FakeApp, Type


def answering(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    document = {**status(), **changes}
    monkeypatch.setattr(client, "fetch", lambda *_asked: document)


def test_nothing(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A well agent: exit code 0."""
    answering(monkeypatch, not_ready_because=[], problems=[])

    result = type_("check", "--socket", "/s")

    assert (result.exit_code, result.stdout) == (0, "nothing is wrong\n")


def test_an_object_that_asks_for_too_much(
    type_: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object, field and message, for people and for programs."""
    problem = {
        "object": "Istio AuthorizationPolicy shop/api",
        "field": "spec.rules[0].to[0].operation.methods",
        "message": "is HTTP, which is not enforced here",
    }
    answering(monkeypatch, not_ready_because=[], problems=[problem])

    text, data = type_("check"), type_("check", "--json")

    assert text.exit_code == data.exit_code == 1
    assert text.stdout.splitlines() == [
        "Istio AuthorizationPolicy shop/api: spec.rules[0].to[0].operation.methods: "
        "is HTTP, which is not enforced here",
        "1 findings",
    ]
    told = {"well": False, "findings": [problem], "notes": [], "warnings": []}
    assert json.loads(data.stdout) == told


def test_a_dependency_that_does_not_answer(
    type_: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = {
        "kind": "identity service",
        "name": "https://id:8443",
        "state": "unreachable",
        "last_contact": "2026-12-01T10:00:00Z",
        "since": "2026-12-01T10:00:05Z",
        "why": "Connection refused",
        "attempts": 3,
    }
    well = {**service, "state": "reachable", "why": None, "since": None}
    found = [service, well]
    answering(monkeypatch, not_ready_because=[], problems=[], dependencies=found)
    result = type_("check", "--socket", "/s")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "identity service https://id:8443: unreachable since 2026-12-01T10:00:05Z "
        "(last contact: 2026-12-01T10:00:00Z): Connection refused",
        "1 findings",
    ]


def test_a_policy_without_effect(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, which is no finding: its pods may come tomorrow."""
    warning = {"object": "Server shop/api", "field": "spec.podSelector", "message": "m"}
    answering(monkeypatch, not_ready_because=[], problems=[], warnings=[warning])

    text, data = type_("check"), type_("check", "--json")

    assert text.exit_code == data.exit_code == 0
    assert text.stdout.splitlines() == [
        "warning: Server shop/api: spec.podSelector: m",
        "nothing is wrong, 1 warnings",
    ]
    assert json.loads(data.stdout)["warnings"] == [warning]


def test_the_agent_itself(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ready, and a mode that could not be had."""
    same_node = {**status()["same_node"], "reason": "no SOCK_DESTROY"}
    answering(monkeypatch, not_ready_because=["why"], problems=[], same_node=same_node)

    assert type_("check", "--socket", "/s").stdout.splitlines() == [
        "agent: not ready: why",
        "agent: same_node: tunnel: no SOCK_DESTROY",
        "2 findings",
    ]


def test_objects_as_a_whole(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object without a field is named; an outage is told once, not twice."""
    away = "the API server does not permit it: pods is forbidden (403)"
    problems = [
        {"object": "API server", "field": None, "message": away},
        {"object": "Pod shop/web", "field": None, "message": "is not enrolled"},
    ]
    answering(monkeypatch, not_ready_because=[away], problems=problems)

    assert type_("check", "--socket", "/s").stdout.splitlines() == [
        f"API server: {away}",
        "Pod shop/web: is not enrolled",
        "2 findings",
    ]


def test_a_kind_that_is_not_installed(
    type_: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told and no fault: a cluster may have one family of policy, or none."""
    source = {
        "source": "api-server",
        "place": "https://api",
        "not_installed": ["servers.policy.linkerd.io"],
    }
    answering(monkeypatch, not_ready_because=[], problems=[], objects_from=source)

    text, data = type_("check"), type_("check", "--json")

    assert text.exit_code == data.exit_code == 0
    note, last = text.stdout.splitlines()
    assert note.startswith("note: servers.policy.linkerd.io: the API server does not")
    assert last == "nothing is wrong"
    assert json.loads(data.stdout)["notes"] == [note.removeprefix("note: ")]


class TestBefore:
    """`podlock check --pre` tells what to do, and its exit code whether to do it."""

    @pytest.mark.parametrize(("advice", "code"), [("", 0), ("set the clock", 1)])
    def test_findings(self, type_: Type, app: FakeApp, advice: str, code: int) -> None:
        """One line each, with the advice below it; the same as data."""
        app.findings = [Finding("clock", "3 s", advice)]

        text, data = type_("check", "--pre"), type_("check", "--pre", "--json")

        assert text.exit_code == data.exit_code == code
        assert (
            text.stdout.split()
            == f"{'BAD' if code else 'ok'} clock: 3 s {advice}".split()
        )
        finding = {
            "subject": "clock",
            "well": not code,
            "message": "3 s",
            "advice": advice,
        }
        assert json.loads(data.stdout) == {"well": not code, "findings": [finding]}

    def test_a_running_agent_is_another_question(self, type_: Type) -> None:
        """Wrong usage, and not an answer to something else."""
        assert type_("check", "--pre", "--socket", "/s").exit_code == 2
