"""
The world of the scenario: two nodes, two pods on each, one identity service.

    node 1: web, batch    node 2: api, cache
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.demo.rotation.traffic import Traffic
from tests.lab import manifests, system
from tests.lab.identity import REPOSITORY, IdentityService, podlock
from tests.lab.manifests import ManifestDirectory
from tests.lab.node import Agent, Document
from tests.lab.pod import Pod
from tests.lab.topology import Lab
from tests.patience import patient

SHOP: Final = "shop"
PODS: Final = {"n1": ("web", "batch"), "n2": ("api", "cache")}
PAIRS: Final = (("web", "api"), ("api", "web"), ("batch", "cache"), ("cache", "batch"))
COMMAND_SECONDS: Final = 20.0
# For a change to be followed, pushed, signed for, installed and told of.
SETTLE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How much traffic, and how long it is watched after each change."""

    requests_per_second: float = 200.0
    streams: int = 20
    fresh_streams: int = 8
    """Opened before the taint, to be found under the tainted issuer."""
    watch_seconds: float = 5.0
    ripen_seconds: float = 8.0
    """How old they are then; who is younger may be a request, and has until 10 s."""


@dataclass(slots=True)
class World:
    """Pods, agents, the authority's commands, and the traffic."""

    lab: Lab
    pods: dict[str, Pod]
    identity: IdentityService
    agents: dict[str, Agent]
    effort: Effort
    traffic: Traffic = field(default_factory=Traffic)
    figures: dict[str, object] = field(default_factory=dict)

    def ca(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `podlock ca ARGUMENTS...` against the authority's directory."""
        return subprocess.run(
            podlock("ca", *arguments, "--config", self.identity.config),
            text=True,
            capture_output=True,
            timeout=patient(COMMAND_SECONDS),
            check=False,
            cwd=REPOSITORY,
        )

    @property
    def crls(self) -> Path:
        """The directory of revocation lists that both agents look at."""
        return self.lab.directory / "crls"

    def revoke(self, *serials: int) -> None:
        """A revocation list of the issuer of now, with these serial numbers."""
        issuer = self.identity.stolen()
        draft = self.crls / ".draft"
        draft.write_bytes(issuer.revoke(*serials))
        draft.rename(self.crls / "issuer.crl")

    def authority(self) -> Document:
        """What `podlock ca show --json` tells."""
        shown = self.ca("show", "--json")
        if shown.returncode != 0:
            raise system.LabError(f"podlock ca show: {shown.stderr.strip()}")
        document: Document = json.loads(shown.stdout)
        return document

    def certificates(self) -> list[Document]:
        """What the agents say of every workload's certificate."""
        return [
            each
            for agent in self.agents.values()
            for each in agent.ask("certificates")["certificates"]
        ]

    def connections(self) -> list[Document]:
        """The open connections of both nodes; those of streams are among them."""
        return [
            each
            for agent in self.agents.values()
            for each in agent.ask("connections")["open"]
        ]

    def presented(self, key: str) -> set[str]:
        """The issuers (or anchors) of everything that is presented."""
        return {str(each[key]) for each in self.certificates()}

    def until(self, done: Callable[[], object], what: str) -> float:
        """Wait for something; returns how long it took, in seconds."""
        return timed(lambda: system.wait_until(done, what, SETTLE_SECONDS, 0.1))

    def knows(self, version: int) -> bool:
        """Whether the authority has heard of every node that it has a version."""
        nodes: list[Document] = self.authority()["nodes"]
        heard = {each["node"] for each in nodes if (each["version"] or 0) >= version}
        return heard == set(self.agents)


def timed(work: Callable[[], object]) -> float:
    """How long something takes, in seconds."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


@contextlib.contextmanager
def built(run: str, effort: Effort) -> Iterator[World]:
    """Everything up, ready and talking; all of it is gone after the block."""
    with Lab(run) as lab:
        world = _world(lab, effort)
        world.identity.start()
        for agent in world.agents.values():
            agent.start(wait=False)
        for agent in world.agents.values():
            agent.wait_ready()
        for pod in world.pods.values():
            world.traffic.serve(pod)
        yield world


def _world(lab: Lab, effort: Effort) -> World:
    pods = {
        name: lab.nodes[node].add_pod(name, SHOP)
        for node, members in PODS.items()
        for name in members
    }
    directory = ManifestDirectory(lab.directory / "manifests")
    objects = [manifests.namespace(SHOP), *map(manifests.pod, pods.values())]
    directory.write("world", *objects)
    identity = IdentityService(lab, directory.path)
    agents = {
        name: Agent(lab, node, directory.path, identity)
        for name, node in lab.nodes.items()
    }
    world = World(lab, pods, identity, agents, effort)
    world.crls.mkdir()
    for agent in agents.values():
        agent.settings = {"identity": {"crl": str(world.crls)}}
    return world
