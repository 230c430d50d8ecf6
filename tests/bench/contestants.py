"""
Who takes part: no mesh, Podlock, and a pair of sidecars for every peer.

A contestant is started once, and stays idle while it is another's turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from tests.bench import peers
from tests.bench.credentials import Authority, Credentials
from tests.bench.goals import DIRECT, PLAIN, PODLOCK
from tests.bench.load import PORT
from tests.bench.peers import Peer, Place, Side
from tests.bench.world import NAMESPACE, SCOPES, Route, Scope, World, cores
from tests.lab import manifests, system
from tests.lab.identity import IdentityService
from tests.lab.manifests import Manifest, ManifestDirectory
from tests.lab.node import Agent, Document
from tests.lab.pod import Pod

CAPTURE_SECONDS: Final = 15.0
SIDECAR_SECONDS: Final = 5.0
# Each peer gets its own ports, so that all of them can stand side by side.
DIRECT_NODE: Final = "n3"
NEAR_PORT: Final = 21000
FAR_PORT: Final = 22000


class Contestant(Protocol):
    """One way to reach the application."""

    @property
    def name(self) -> str:
        """As the tables show it."""

    @property
    def scopes(self) -> Sequence[Scope]:
        """Where it takes part."""

    def start(self) -> None:
        """Start what it needs and wait until it is ready. Raises: LabError."""

    def route(self, scope: Scope) -> Route:
        """How a client reaches the application of a scope."""


class Plain:
    """No mesh at all: the ceiling of the load itself."""

    name = PLAIN
    scopes = SCOPES

    def __init__(self, world: World) -> None:
        self._pods = world.plain

    def start(self) -> None:
        """Nothing to start."""

    def route(self, scope: Scope) -> Route:
        """Straight to the application."""
        server = self._pods.servers[scope]
        return Route(self._pods.client, server.address.v4, PORT, ())


class Podlock:
    """Two agents as they come, one policy for the port, log level info."""

    name = PODLOCK
    scopes = SCOPES

    def __init__(self, world: World, workers: int = 0) -> None:
        self._world = world
        lab = world.lab
        self.directory = ManifestDirectory(lab.directory / "manifests")
        self._identity = IdentityService(lab, self.directory.path)
        # The limit is for the case with 10,000 connections; all else is the default.
        settings = {"workers": workers, "limits": {"connections_per_pod": 50_000}}
        self.agents = {
            name: Agent(lab, node, self.directory.path, self._identity, dict(settings))
            for name, node in lab.nodes.items()
            if node is not lab.nodes[DIRECT_NODE]
        }

    def start(self) -> None:
        """Start identity service and agents; wait until every pod is captured."""
        self._write_manifests()
        self._identity.start()
        for agent in self.agents.values():
            agent.start(wait=False)
        for agent in self.agents.values():
            agent.wait_ready()
            its = {pod.name for pod in self.meshed if pod.node == agent.node.name}
            wait_captured(agent, its)

    @property
    def meshed(self) -> tuple[Pod, ...]:
        """The pods that are Podlock's from the beginning."""
        pods = self._world.meshed
        return pods.client, *pods.servers.values()

    def route(self, scope: Scope) -> Route:
        """To the pod's own address; inside a node one agent does all of it."""
        pods = self._world.meshed
        server = pods.servers[scope]
        nodes = sorted({pods.client.node, server.node})
        cgroups = tuple(self.agents[node].cgroup for node in nodes)
        return Route(pods.client, server.address.v4, PORT, cgroups)

    def _write_manifests(self) -> None:
        pods = self._world.meshed
        objects: list[Manifest] = [manifests.namespace(NAMESPACE)]
        objects += [manifests.pod(pod) for pod in self.meshed]
        for server in pods.servers.values():
            objects += _policy(server, pods.client)
        self.directory.write("bench", *objects)


def _policy(server: Pod, client: Pod) -> list[Manifest]:
    """One client may open the application's port, and nobody else."""
    name = f"{server.name}-callers"
    return [
        manifests.server(server.name, NAMESPACE, server.name, PORT),
        manifests.authorization_policy(name, NAMESPACE, server.name, name),
        manifests.mesh_tls_authentication(name, NAMESPACE, client.name),
    ]


class PodlockDirect:
    """An agent with `same_node: direct` on a node of its own, under the same policy."""

    name = DIRECT
    scopes: Sequence[Scope] = ("same-node",)

    def __init__(self, world: World) -> None:
        self._pods = world.direct
        self._load = world.load
        lab, node = world.lab, world.lab.nodes[DIRECT_NODE]
        self._directory = ManifestDirectory(lab.directory / "manifests-direct")
        settings: Document = {"same_node": "direct"}
        self._agent = Agent(lab, node, self._directory.path, settings=settings)

    def start(self) -> None:
        """Start the agent, and talk once: the second connection is direct."""
        server, client = self._pods.servers["same-node"], self._pods.client
        pods = [manifests.pod(server), manifests.pod(client)]
        policy = _policy(server, client)
        self._directory.write("bench", manifests.namespace(NAMESPACE), *pods, *policy)
        self._agent.start()
        wait_captured(self._agent, {server.name, client.name})
        where = (server.address.v4, str(PORT))
        self._load.run(
            client, "trips", *where, "1", "0.1", "0", seconds=CAPTURE_SECONDS
        )

        def learned() -> bool:
            return bool(self._agent.ask("status")["same_node"]["pairs"])

        system.wait_until(learned, "a direct pair", CAPTURE_SECONDS)

    def route(self, scope: Scope) -> Route:
        """To the pod's own address."""
        server = self._pods.servers[scope]
        cgroups = (self._agent.cgroup,)
        return Route(self._pods.client, server.address.v4, PORT, cgroups)


def wait_captured(
    agent: Agent, pods: set[str], seconds: float = CAPTURE_SECONDS
) -> None:
    """Wait until the traffic of these pods is the agent's. Raises: LabError."""

    def captured() -> bool:
        workloads = agent.ask("workloads")["workloads"]
        return pods <= {w["name"] for w in workloads if w["state"] == "captured"}

    system.wait_until(captured, f"pods of {agent.node.name} captured", seconds)


class Sidecars:
    """A pair of one peer's sidecars for each scope."""

    scopes = SCOPES

    def __init__(
        self, world: World, peer: Peer, number: int, authority: Authority
    ) -> None:
        self._world = world
        self._peer = peer
        self._number = number
        self._authority = authority

    @property
    def name(self) -> str:
        """The peer's name."""
        return self._peer.name

    def start(self) -> None:
        """Start both pairs and wait until they listen."""
        pods = self._world.plain
        for scope in SCOPES:
            server = pods.servers[scope]
            far = (server.address.v4, FAR_PORT + self._number)
            near = ("127.0.0.1", self._near_port(scope))
            self._start(server, scope, "far", far, ("127.0.0.1", PORT))
            self._start(pods.client, scope, "near", near, far)

    def route(self, scope: Scope) -> Route:
        """To the sidecar beside the client."""
        sides: tuple[Side, Side] = ("near", "far")
        cgroups = tuple(self._cgroup(scope, side) for side in sides)
        port = self._near_port(scope)
        client = self._world.plain.client
        # One to the application and one to the other side, both in one process.
        return Route(client, "127.0.0.1", port, cgroups, sockets_each=2)

    def _near_port(self, scope: Scope) -> int:
        return NEAR_PORT + 10 * self._number + SCOPES.index(scope)

    def _cgroup(self, scope: Scope, side: Side) -> Path:
        return self._world.lab.host_cgroup(f"{self.name}-{scope}-{side}")

    def _start(
        self,
        pod: Pod,
        scope: Scope,
        side: Side,
        listen: tuple[str, int],
        connect: tuple[str, int],
    ) -> None:
        directory = self._world.lab.directory / self.name / f"{scope}-{side}"
        place = Place(directory, listen, connect, self._credentials(side), cores())
        argv = peers.prepare(self._peer, side, place)
        command = system.inside(pod.netns, self._cgroup(scope, side), argv)
        log = directory / "log"
        with log.open("w") as out:
            process = self._world.lab.children.start(command, out, out)

        def listens() -> bool:
            return pod.listens(listen[1]) or process.poll() is not None

        what = f"{self.name} ({scope}, {side})"
        system.wait_until(listens, what, SIDECAR_SECONDS)
        if process.poll() is not None:
            raise system.LabError(f"{what} ended: {log.read_text().strip()[-300:]}")

    def _credentials(self, side: Side) -> Credentials:
        name = peers.SERVER_NAME if side == "far" else peers.CLIENT_NAME
        directory = self._world.lab.directory / self.name / f"{side}-credentials"
        return self._authority.issue(directory, name)


def entered(
    world: World, names: Sequence[str], known: dict[str, Peer]
) -> list[Contestant]:
    """The contestants of these names, in this order, not yet started."""
    authority = Authority()
    entries: list[Contestant] = []
    for number, name in enumerate(names):
        if name == PLAIN:
            entries.append(Plain(world))
        elif name == PODLOCK:
            entries.append(Podlock(world))
        elif name == DIRECT:
            entries.append(PodlockDirect(world))
        else:
            entries.append(Sidecars(world, known[name], number, authority))
    return entries
