"""
The world of the demo: a small shop on two nodes.

    node 1: web, batch, courier, buyer, till (nginx)   outsider (not meshed)
    node 2: api (nginx), cache (redis), files (vsftpd), sink, open, strict (nginx)
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.lab import apps, manifests, names, system
from tests.lab.capture import WireTap
from tests.lab.identity import IdentityService
from tests.lab.manifests import DEFAULT_INBOUND, Manifest, ManifestDirectory
from tests.lab.names import DualStack
from tests.lab.node import Agent, Document
from tests.lab.pod import Pod, program
from tests.lab.topology import Lab

SHOP: Final = "shop"
MESHED: Final = {
    "n1": ("web", "batch", "courier", "buyer", "till"),
    "n2": ("api", "cache", "files", "sink", "open", "strict"),
}
# How a pod is told to treat those who come without a certificate.
DEFAULTS: Final = {"open": "all-unauthenticated", "strict": "all-authenticated"}
SERVICES: Final = {"api": 80, "cache": 6379, "files": 21, "till": 80}

HALF_CLOSE_PORT, RESET_PORT, BULK_PORT, SLOW_PORT, COLLECT_PORT = range(9000, 9005)

# From ready to every pod redirected; a second or two in practice.
CAPTURE_SECONDS: Final = 15.0


@dataclass(slots=True)
class Stage:
    """The demo's pods, agents and secrets, as the steps use them."""

    lab: Lab
    pods: dict[str, Pod]
    directory: ManifestDirectory
    identity: IdentityService
    agents: dict[str, Agent]
    secret: str
    """Random letters in every payload: what nobody on the wire may read."""
    tap: WireTap | None = None
    """The capture of step 1, for step 2 to look at."""

    def service(self, name: str) -> DualStack:
        """The addresses of a Service."""
        return names.service_address(list(SERVICES).index(name))

    def identity_of(self, pod: str) -> str:
        """The SPIFFE ID that a pod of the shop should have."""
        account = self.pods[pod].service_account
        return f"spiffe://{self.identity.trust_domain}/ns/{SHOP}/sa/{account}"

    def page(self, name: str) -> str:
        """What the web server of a pod answers with."""
        return f"{name} says {self.secret}\n"

    def let_in(self, *accounts: str) -> None:
        """Say who may call api, by replacing the policy file."""
        self.directory.write("policy", *api_policy(*accounts))

    @property
    def gate(self) -> str:
        """The file that lets the slow reader read."""
        return str(self.pods["sink"].directory / "gate")

    @property
    def collected(self) -> bytes:
        """What the sink has collected so far."""
        return (self.pods["sink"].directory / "collected").read_bytes()


def api_policy(*accounts: str) -> list[Manifest]:
    """Server, AuthorizationPolicy and MeshTLSAuthentication of api's port 80."""
    return [
        manifests.server("api-http", SHOP, "api", apps.HTTP_PORT),
        manifests.authorization_policy("api-callers", SHOP, "api-http", "api-callers"),
        manifests.mesh_tls_authentication("api-callers", SHOP, *accounts),
    ]


def till_policy() -> list[Manifest]:
    """The same for till, a neighbour of its callers: web may, batch may not."""
    return [
        manifests.server("till-http", SHOP, "till", apps.HTTP_PORT),
        manifests.authorization_policy("till-users", SHOP, "till-http", "till-users"),
        manifests.mesh_tls_authentication("till-users", SHOP, "web"),
    ]


@contextlib.contextmanager
def built(
    run: str = names.DEMO_RUN, *, lifetime_hours: float = 24.0
) -> Iterator[Stage]:
    """Everything up and ready; all of it is gone after the block, unless kept."""
    with Lab(run) as lab:
        stage = _world(lab, lifetime_hours)
        _write_manifests(stage)
        _start_applications(stage)
        stage.identity.start()
        for agent in stage.agents.values():
            agent.start(wait=False)
        for agent in stage.agents.values():
            agent.wait_ready()
            wait_captured(agent)
        yield stage


def wait_captured(agent: Agent) -> None:
    """Wait until every meshed pod of the agent's node is captured."""
    expected = set(MESHED[agent.node.name])
    what = f"pods of {agent.node.name} enrolled"
    system.wait_until(lambda: expected <= captured(agent), what, CAPTURE_SECONDS)


def captured(agent: Agent) -> set[str]:
    """The names of the pods whose traffic the agent has."""
    workloads: list[Document] = agent.ask("workloads")["workloads"]
    return {each["name"] for each in workloads if each["state"] == "captured"}


def _world(lab: Lab, lifetime_hours: float) -> Stage:
    pods = {
        name: lab.nodes[node].add_pod(name, SHOP)
        for node, members in MESHED.items()
        for name in members
    }
    pods["outsider"] = lab.nodes["n1"].add_pod("outsider", "outside")
    directory = ManifestDirectory(lab.directory / "manifests")
    identity = IdentityService(lab, directory.path, lifetime_hours=lifetime_hours)
    agents = {
        name: Agent(lab, node, directory.path, identity)
        for name, node in lab.nodes.items()
    }
    secret = f"podlock-secret-{secrets.token_hex(8)}"
    return Stage(lab, pods, directory, identity, agents, secret)


def world_objects(
    stage: Stage, defaults: Mapping[str, str] = DEFAULTS, *, outside: bool = False
) -> list[Manifest]:
    """
    Namespaces, pods and Services; `defaults` are pods' own default policies.

    `outside`: whether the outsider's namespace is in the mesh.
    """
    objects = [
        manifests.namespace(SHOP),
        manifests.namespace("outside", meshed=outside),
    ]
    for name, pod in stage.pods.items():
        told = {DEFAULT_INBOUND: defaults[name]} if name in defaults else {}
        objects.append(manifests.pod(pod, annotations=told))
    for index, (name, port) in enumerate(SERVICES.items()):
        objects.append(manifests.service(name, SHOP, index, main=port))
    return objects


def _write_manifests(stage: Stage) -> None:
    stage.directory.write("world", *world_objects(stage))
    stage.directory.write("till", *till_policy())
    stage.let_in("web", "courier")


def _start_applications(stage: Stage) -> None:
    pods = stage.pods
    for name in ("api", "till", "open", "strict"):
        apps.start_nginx(pods[name], {"index.html": stage.page(name)})
    apps.start_redis(pods["cache"])
    listing = {"list.txt": stage.page("files")}
    apps.start_ftp(pods["files"], listing, banner=stage.secret)
    sink = pods["sink"]
    collected = str(sink.directory / "collected")
    for name, *arguments in (
        ("halfclose", HALF_CLOSE_PORT),
        ("reset", RESET_PORT),
        ("bulk", BULK_PORT),
        ("slowreader", SLOW_PORT, stage.gate),
        ("collect", COLLECT_PORT, collected),
    ):
        sink.start(*program(str(name), "serve", *arguments), log=f"{name}.out")
    for port in (HALF_CLOSE_PORT, RESET_PORT, BULK_PORT, SLOW_PORT, COLLECT_PORT):
        sink.wait_listening(port)
