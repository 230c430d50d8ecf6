"""
The world of the scenario: a small shop whose pods call each other all the time.

    node 1: web, batch, outsider (not meshed)    node 2: api, db, cron
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from tests.demo.calls import Program
from tests.lab import apps, manifests, system
from tests.lab.identity import REPOSITORY, IdentityService, podlock
from tests.lab.manifests import DEFAULT_INBOUND, Manifest, ManifestDirectory
from tests.lab.node import Agent
from tests.lab.pod import Pod
from tests.lab.topology import Lab

SHOP: Final = "shop"
PODS: Final = {"n1": ("web", "batch"), "n2": ("api", "db", "cron")}
# Who calls whom as long as the scenario runs: across the wire, on one node, and in
# plaintext from outside the mesh.
CALLS: Final = (("web", "api"), ("api", "db"), ("cron", "db"), ("outsider", "api"))
PAUSE_SECONDS: Final = 0.02
READY_SECONDS: Final = 15.0


@dataclass(slots=True)
class World:
    """The pods and agents of the scenario, and the traffic between them."""

    lab: Lab
    pods: dict[str, Pod]
    directory: ManifestDirectory
    agents: dict[str, Agent]
    traffic: dict[tuple[str, str], Program] = field(default_factory=dict)
    figures: dict[str, object] = field(default_factory=dict)

    @property
    def proposal(self) -> Path:
        """Where what was suggested lies before it is applied."""
        return self.lab.directory / "proposal"

    def default(self, value: str) -> None:
        """The default policy of the shop's namespace."""
        made = manifests.namespace(SHOP)
        made["metadata"]["annotations"] = {DEFAULT_INBOUND: value}
        self.directory.write("namespace", made)

    def call(self, source: str, to: str) -> Program:
        """Start calls that go on, and wait until the first one is answered."""
        address = self.pods[to].address.v4
        arguments = (address, apps.HTTP_PORT, str(PAUSE_SECONDS))
        program = Program(self.pods[source], "knock", *arguments)
        self.traffic[source, to] = program
        program.wait("served", seconds=READY_SECONDS)
        return program

    def counts(self, *calls: tuple[str, str]) -> tuple[int, int]:
        """How many calls were served and refused so far, of some or of all."""
        last = [self.traffic[each].told("count")[-1] for each in calls or self.traffic]
        return sum(c["served"] for c in last), sum(c["refused"] for c in last)

    def ask(self, *words: str, node: str = "n2") -> subprocess.CompletedProcess[str]:
        """`podlock authz ...` against the agent of a node."""
        return self.agents[node].command("authz", *words)

    def seen(self) -> list[str]:
        """What each node has seen, written to files: `--seen FILE` for each."""
        options: list[str] = []
        for name, agent in self.agents.items():
            path = self.lab.directory / f"{name}.json"
            path.write_text(json.dumps(agent.ask("seen")))
            options += ["--seen", str(path)]
        return options

    def audited(self) -> int:
        """How many connections only audit let in, on all nodes."""
        counts = [agent.ask("status")["counts"] for agent in self.agents.values()]
        return sum(each["audited"] for each in counts)

    def propose(self, text: str) -> None:
        """Put manifests where a person would look at them."""
        self.proposal.mkdir(exist_ok=True)
        (self.proposal / "suggested.yaml").write_text(text)

    def apply(self) -> None:
        """What `kubectl apply` would do with the proposal."""
        text = (self.proposal / "suggested.yaml").read_text()
        made: list[Manifest] = list(yaml.safe_load_all(text))
        namespaces = [each for each in made if each["kind"] == "Namespace"]
        self.directory.write("policy", *(e for e in made if e not in namespaces))
        self.directory.write("namespace", *namespaces)

    def offline(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`podlock authz ...` of the manifests alone, as in a repository's CI."""
        argv = podlock("authz", *words, "--manifests", self.directory.path)
        return subprocess.run(
            argv, text=True, capture_output=True, check=False, cwd=REPOSITORY
        )


@contextlib.contextmanager
def built(run: str) -> Iterator[World]:
    """Everything up and ready; gone after the block, unless kept."""
    with Lab(run) as lab:
        pods = {
            name: lab.nodes[node].add_pod(name, SHOP)
            for node, members in PODS.items()
            for name in members
        }
        pods["outsider"] = lab.nodes["n1"].add_pod("outsider", "outside")
        directory = ManifestDirectory(lab.directory / "manifests")
        identity = IdentityService(lab, directory.path)
        agents = {
            name: Agent(lab, node, directory.path, identity)
            for name, node in lab.nodes.items()
        }
        world = World(lab, pods, directory, agents)
        world.default("all-unauthenticated")
        outside = manifests.namespace("outside", meshed=False)
        directory.write("pods", outside, *map(manifests.pod, pods.values()))
        for name in ("api", "db"):
            apps.start_nginx(pods[name], {"index.html": f"{name}\n"})
        identity.start()
        for agent in agents.values():
            agent.start(wait=False)
        for node, agent in agents.items():
            agent.wait_ready()
            _wait_captured(agent, len(PODS[node]))
        yield world


def _wait_captured(agent: Agent, count: int) -> None:
    def all_are() -> bool:
        captured: int = agent.ask("status")["counts"]["captured"]
        return captured == count

    system.wait_until(all_are, f"pods of {agent.node.name} captured", READY_SECONDS)
