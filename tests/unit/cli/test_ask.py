"""Each document can be asked for, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.status import client
from agent.status.documents import NAMES
from tests.unit.status.samples import status

from .conftest import Type


class FakeAgent:
    """Answers with one document; keeps the question."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.asked: list[tuple[Path, str, dict[str, list[str]]]] = []

    def fetch(
        self, path: Path, name: str, filters: dict[str, list[str]]
    ) -> dict[str, Any]:
        self.asked.append((path, name, filters))
        return self.document


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
    fake = FakeAgent(status())
    monkeypatch.setattr(client, "fetch", fake.fetch)
    return fake


def test_no_agent(type_: Type, tmp_path: Path) -> None:
    """Without an agent the error names the socket and the likely cause."""
    for name in NAMES:
        result = type_(name, "--socket", tmp_path / "absent.sock")
        assert result.exit_code == 1
        assert f"no agent answers at {tmp_path}/absent.sock" in result.stderr
        assert "is `podlock run` running?" in result.stderr


def test_the_socket_of_the_configuration(type_: Type, agent: FakeAgent) -> None:
    """Without --socket it is the one that the agent itself would use."""
    assert type_("status", "--set", "run_dir=/run/two").exit_code == 0

    assert agent.asked == [(Path("/run/two/agent.sock"), "status", {})]


def test_for_people(type_: Type, agent: FakeAgent) -> None:
    """Text without markup where no terminal is."""
    result = type_("status", "--socket", "/s")

    assert "worker 1 has not started" in result.stdout
    assert "\x1b" not in result.stdout


def test_for_programs(type_: Type, agent: FakeAgent) -> None:
    """The document, as it came."""
    result = type_("status", "--socket", "/s", "--json")

    assert json.loads(result.stdout) == status()


def test_filters(type_: Type, agent: FakeAgent) -> None:
    """Options become the filters of the document."""
    words = ("--workload", "shop/api", "--outcome", "refused", "--json")

    type_("connections", "--socket", "/s", *words)

    assert agent.asked[0][2] == {"workload": ["shop/api"], "outcome": ["refused"]}


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("workloads", "workload"),
        ("certificates", "identity"),
        ("policies", "workload"),
        ("connections", "workload"),
        ("seen", "workload"),
        ("events", "object"),
        ("objects", "name"),
    ],
)
def test_names_after_the_command(
    type_: Type, agent: FakeAgent, command: str, key: str
) -> None:
    """Each list takes the names of what it lists, beside the option."""
    type_(command, "--socket", "/s", "web", "api", f"--{key}", "db", "--json")

    assert agent.asked[0][2] == {key: ["db", "web", "api"]}


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_name_that_nothing_has(
    type_: Type, agent: FakeAgent, words: tuple[str, ...]
) -> None:
    """2, and what was probably meant; nothing that could pass for an answer."""
    unknown = "workload wbe: no workload has this name; do you mean shop/web?"
    filtered = {"shown": 0, "of": 41, "unknown": [unknown]}
    agent.document = {"workloads": [], "counts": {}, "filtered": filtered}

    result = type_("workloads", "--socket", "/s", "wbe", *words)

    assert result.exit_code == 2
    assert unknown in result.stderr
    assert not result.stdout


def test_what_a_filter_kept(type_: Type, agent: FakeAgent) -> None:
    """A footer; also where nothing is left."""
    filtered: dict[str, Any] = {"shown": 0, "of": 41, "unknown": []}
    agent.document = {"workloads": [], "counts": {}, "filtered": filtered}

    result = type_("workloads", "--socket", "/s", "--state", "waiting")

    assert result.exit_code == 0
    assert "0 of 41 shown" in result.stdout
