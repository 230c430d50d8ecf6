"""Where it runs: two nodes, their agents, the pods of the paths, and their policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.demo.stage import captured
from tests.lab import apps, manifests, system, topology
from tests.lab.identity import IdentityService
from tests.lab.manifests import Manifest, ManifestDirectory
from tests.lab.node import Agent
from tests.lab.pod import Pod
from tests.lab.topology import Lab
from tests.patience import patient
from tests.soak import paths
from tests.soak.paths import Path

RUN: Final = "podlock-soak"
SHOP: Final = "shop"
OUTSIDE: Final = "outside"
CAPTURE_SECONDS: Final = 20.0
# A pod whose web server is permitted to nobody.
DENIED: Final = "till"
# Where the identity service's processes are.
IDENTITY_CGROUP: Final = "identity"
CONTROL_TIMEOUT_SECONDS: Final = patient(3.0)

# The least that the settings allow: renewed every 42 s or so.
LIFETIME_HOURS: Final = 1 / 60
# Tunnels of the load are gone soon after it, so that what is left over is a leak.
IDLE_TUNNEL_SECONDS: Final = 3.0


@dataclass(slots=True)
class World:
    """The lab with everything ready; no load yet."""

    lab: Lab
    pods: dict[str, Pod]
    directory: ManifestDirectory
    identity: IdentityService
    agents: dict[str, Agent]
    paths: tuple[Path, ...]
    generation: int = 0
    """Of the Pod objects: each has uids of its own."""

    def write_objects(self) -> None:
        """Namespaces and pods."""
        objects = [
            manifests.namespace(SHOP),
            manifests.namespace(OUTSIDE, meshed=False),
        ]
        # Pods of no mesh have no manifest: to an agent they are somewhere outside.
        meshed = {name for names in paths.MESHED.values() for name in names}
        for name, pod in self.pods.items():
            if name in meshed:
                one = manifests.pod(pod)
                one["metadata"]["uid"] += f"-{self.generation}"
                objects.append(one)
        # Nobody may talk to this port.
        objects.append(manifests.server("denied", SHOP, DENIED, apps.HTTP_PORT))
        self.directory.write("world", *objects)

    def permit(self, revoked: Sequence[str] = ()) -> None:
        """Say by policy who may use the guarded ports: every path but the revoked."""
        self.directory.write("policy", *guards(self.paths, revoked))


def guards(entries: Sequence[Path], revoked: Sequence[str]) -> list[Manifest]:
    """The policy objects of all guarded ports."""
    objects: list[Manifest] = []
    ports = dict.fromkeys((each.server, each.port) for each in entries if each.guarded)
    for server, port in ports:
        name = f"{server}-{port}"
        here = [each for each in entries if (each.server, each.port) == (server, port)]
        clients = [each.client for each in here if each.name not in revoked]
        objects += [
            manifests.server(name, SHOP, server, port),
            manifests.authorization_policy(name, SHOP, name, name),
            manifests.mesh_tls_authentication(name, SHOP, *clients),
        ]
    return objects


@contextlib.contextmanager
def built(run: str = RUN) -> Iterator[World]:
    """Everything up and ready; all of it is gone after the block."""
    with Lab(run) as lab:
        world = _world(lab)
        _write_manifests(world)
        world.identity.start()
        for agent in world.agents.values():
            agent.start(wait=False)
        for name, agent in world.agents.items():
            agent.wait_ready()
            _wait_captured(agent, set(paths.MESHED[name]))
        yield world


def remove(run: str = RUN) -> None:
    """Whatever a soak left behind."""
    topology.cleanup(run)


def _wait_captured(agent: Agent, expected: set[str]) -> None:
    what = f"pods of {agent.node.name} captured"
    system.wait_until(lambda: expected <= captured(agent), what, CAPTURE_SECONDS)


def _world(lab: Lab) -> World:
    pods = {
        name: lab.nodes[node].add_pod(name, namespace)
        for members, namespace in ((paths.MESHED, SHOP), (paths.UNMESHED, OUTSIDE))
        for node, names in members.items()
        for name in names
    }
    directory = ManifestDirectory(lab.directory / "manifests")
    identity = IdentityService(lab, directory.path, lifetime_hours=LIFETIME_HOURS)
    agents = {
        name: Agent(lab, node, directory.path, identity, settings(name))
        for name, node in lab.nodes.items()
    }
    entries = tuple(each for each in paths.PATHS if paths.runnable(each))
    return World(lab, pods, directory, identity, agents, entries)


def settings(node: str) -> dict[str, Any]:
    """What a node's agent is told beside the lab's own configuration."""
    limits = {
        "idle_tunnel_seconds": IDLE_TUNNEL_SECONDS,
        "control_timeout_seconds": CONTROL_TIMEOUT_SECONDS,
    }
    chosen: dict[str, Any] = {"limits": limits}
    key = paths.setting_key(paths.DIRECT)
    if key and node == paths.DIRECT_NODE:
        section, _, name = key.rpartition(".")
        value = {name: paths.DIRECT[1]}
        chosen = {**chosen, **({section: value} if section else value)}
    return chosen


def _write_manifests(world: World) -> None:
    world.write_objects()
    world.permit()
