"""Two agents on one node: the next one waits, and takes over when the last one goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.demo.calls import Program
from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.node import Agent

pytestmark = pytest.mark.slow


class NextAgent(Agent):
    """Another one of the same node, with files and processes of its own."""

    @property
    def socket(self) -> Path:
        return self.node.directory / "next.sock"

    @property
    def config(self) -> Path:
        return self.node.directory / "next.yaml"

    @property
    def log(self) -> Path:
        return self.node.directory / "next.log"

    @property
    def cgroup(self) -> Path:
        return self.lab.host_cgroup(f"next-{self.node.name}")

    def waits(self) -> bool:
        """Whether it has said so."""
        return (
            self.log.exists() and "another agent has this node" in self.log.read_text()
        )


def test_from_one_to_the_next_and_back(world: Stage) -> None:
    """A stream of new connections is refused for moments, and never by both."""
    last = world.agents["n2"]
    following = NextAgent(last.lab, last.node, last.manifests, last.identity)
    api = world.pods["api"].address.v4
    knocks = Program(world.pods["web"], "knock", api, 80)
    knocks.wait("served")
    try:
        following.start(wait=False)
        system.wait_until(following.waits, "the next agent waits", 20)
        assert not following.socket.exists()
        assert last.ask("status")["ready"]
        _changes_hands(knocks, last, following)
        last.start(wait=False)
        system.wait_until(
            lambda: last.log.read_text().count("another agent has this node") == 1,
            *("the last agent waits in turn", 20),
        )
        _changes_hands(knocks, following, last)
    finally:
        knocks.kill()
        following.stop()


def _changes_hands(knocks: Program, leaving: Agent, coming: Agent) -> None:
    before = len(knocks.told("served"))
    refused = len(knocks.told("refused"))
    leaving.stop()
    coming.wait_ready()
    knocks.wait("refused", refused + 1)
    knocks.wait("served", before + 1, 10)
    assert [w["state"] for w in _api(coming)] == ["captured"]


def _api(agent: Agent) -> list[dict[str, object]]:
    found: list[dict[str, object]] = agent.ask("workloads")["workloads"]
    return [each for each in found if each["name"] == "api"]
