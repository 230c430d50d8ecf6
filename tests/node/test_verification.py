"""The redirect is taken from a running agent: reported, repaired, bypasses ended."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.demo.calls import Program, curl, url
from tests.lab import apps, manifests, system
from tests.lab.identity import run_podlock
from tests.lab.manifests import DEFAULT_INBOUND, ManifestDirectory
from tests.lab.node import Agent, Document
from tests.lab.topology import Lab, random_run

pytestmark = pytest.mark.slow

SHOP: Final = "shop"


@pytest.fixture
def agent() -> Iterator[Agent]:
    """web and api of one node; api denies whoever has no rule, which is everybody."""
    with Lab(random_run(), nodes=("n1",)) as lab:
        node = lab.nodes["n1"]
        web, api = node.add_pod("web", SHOP), node.add_pod("api", SHOP)
        directory = ManifestDirectory(Path(lab.directory) / "manifests")
        closed = manifests.pod(api, annotations={DEFAULT_INBOUND: "deny"})
        directory.write("w", manifests.namespace(SHOP), manifests.pod(web), closed)
        apps.start_nginx(api, {"index.html": "secret\n"})
        agent = Agent(lab, node, directory.path)
        agent.start()
        system.wait_until(lambda: _captured(agent) == 2, "both captured", 15)
        yield agent


def _captured(agent: Agent) -> int:
    count: int = agent.ask("status")["counts"]["captured"]
    return count


def remove(agent: Agent, *options: str) -> subprocess.CompletedProcess[str]:
    return run_podlock("redirect", "remove", "--config", agent.config, *options)


def events(agent: Agent, kind: str) -> list[Document]:
    return [each for each in agent.ask("events")["events"] if each["kind"] == kind]


def test_removed_while_the_agent_runs(agent: Agent) -> None:
    """Refused; with --force found, repaired and told, and a deny holds again."""
    web, api = agent.node.pods
    address = api.address.v4
    assert not curl(web, url(address)).served
    refused = remove(agent)
    assert refused.returncode != 0
    assert "--force" in refused.stderr
    assert agent.ask("status")["redirect"]["loaded"]

    forced = remove(agent, "--force")
    assert forced.returncode == 0, forced.stderr
    system.wait_until(lambda: events(agent, "redirect-restored"), "repaired", 3)

    (missing,) = events(agent, "redirect-missing")
    assert "redirect4: detached" in missing["message"]
    system.wait_until(lambda: agent.ask("status")["ready"], "ready again", 3)
    assert not curl(web, url(address)).served
    (told,) = agent.ask("status")["redirect"]["interruptions"]
    assert "redirect4" in told["faults"]
    assert "was missing" in agent.command("check").stdout


def test_pins_removed(agent: Agent) -> None:
    """The programs stay attached all the time, and have their names again."""
    web, api = agent.node.pods
    for folder in ("links", "programs", "maps"):
        shutil.rmtree(agent.node.pins / folder)
    system.wait_until(lambda: events(agent, "redirect-restored"), "pinned again", 3)
    assert not curl(web, url(api.address.v4)).served
    agent.stop()
    assert "2 pods stay redirected" in agent.log_tail(1)
    assert not curl(web, url(api.address.v4)).served
    left = run_podlock("status", "--config", agent.config)
    assert left.returncode != 0
    assert "2 pods stay redirected" in left.stderr
    assert "podlock redirect remove" in left.stderr


def test_a_namespace_that_is_gone(agent: Agent) -> None:
    """Its pod is named in `check`, and stays captured."""
    _, api = agent.node.pods
    system.run("ip", "netns", "del", api.netns.name)

    def named() -> bool:
        return "does not exist any more" in agent.command("check").stdout

    system.wait_until(named, "named", 5)
    assert _captured(agent) == 2


def test_what_passed_meanwhile_is_ended(agent: Agent) -> None:
    """A connection opened past the agent is destroyed, and an event names it."""
    web, api = agent.node.pods
    control = agent.ask("status")["pid"]
    system.run("kill", "-STOP", str(control))
    try:
        assert remove(agent, "--force").returncode == 0
        held = Program(web, "hold", api.address.v4, apps.HTTP_PORT)
        held.wait("answer")
    finally:
        system.run("kill", "-CONT", str(control))
    held.wait("closed", 1, 5)
    told = system.wait_until(lambda: events(agent, "bypassed"), "told", 3)
    assert any(f"{api.address.v4}:{apps.HTTP_PORT}" in e["message"] for e in told)
