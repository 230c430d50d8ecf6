"""
`podlock run` beside a real API server: pods come, talk and leave.

There is no kubelet. What it would do to the machine is done here: a cgroup by the
pod's uid, a sandbox process in a network namespace of its own, and an address.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.redirect.mounts import cgroup2_root, parse_mounts
from tests.cluster.control_plane import until
from tests.kube.world import World
from tests.lab import system

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
WEB, API = "10.77.0.1", "10.77.0.2"
CONTAINER = "3f" * 32


@dataclass(slots=True)
class Machine:
    """One node's cgroup, two network namespaces joined by a cable, and an agent."""

    world: World
    directory: Path
    cgroup: Path
    children: system.Children = field(default_factory=system.Children)
    containers: dict[str, Path] = field(default_factory=dict)

    def namespace(self, name: str) -> Path:
        return Path(f"/run/netns/{self.world.namespace}-{name}")

    def wire(self) -> None:
        """Two namespaces; Service addresses lead out by the cable, too."""
        web, api = self.namespace("web").name, self.namespace("api").name
        for name in (web, api):
            system.run("ip", "netns", "add", name)
        cable = f"link add name eth0 type veth peer name eth0 netns {api}"
        for name, own, other in ((web, WEB, API), (api, API, WEB)):
            first = [cable] if name == web else []
            rest = ["link set lo up", f"addr add {own}/24 dev eth0", "link set eth0 up"]
            system.ip_batch(name, [*first, *rest, f"route add default via {other}"])

    def pod(self, name: str, ip: str) -> None:
        """A pod object, then its sandbox, as a kubelet would."""
        self.world.account(name)
        uid = self.world.pod(name, self.world.node, ip, account=name)
        below = f"kubepods/burstable/pod{uid}/{CONTAINER}"
        self.containers[name] = self.cgroup / below
        self.containers[name].mkdir(parents=True)
        self.start(name, "sleep", "600")

    def start(self, name: str, *argv: str) -> None:
        """A process of a pod."""
        command = system.inside(self.namespace(name), self.containers[name], argv)
        self.children.start(command, subprocess.DEVNULL, subprocess.DEVNULL)

    def fetch(self, url: str) -> str:
        """What curl in the pod web gets, or the reason why not."""
        argv = ["curl", "--silent", "--show-error", "--max-time", "20", url]
        command = system.inside(self.namespace("web"), self.containers["web"], argv)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout or done.stderr

    def remove(self) -> None:
        system.remove_cgroup(self.cgroup)
        self.children.reap()
        for name in ("web", "api"):
            with contextlib.suppress(system.LabError):
                system.run("ip", "netns", "del", self.namespace(name).name)


def podlock(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "agent", *map(str, arguments)]


@contextlib.contextmanager
def machine(world: World, directory: Path) -> Iterator[Machine]:
    mounts = parse_mounts(Path("/proc/self/mounts").read_text())
    top = cgroup2_root(mounts)
    assert top is not None
    made = Machine(world, directory, top / f"podlock-{world.namespace}")
    made.cgroup.mkdir()
    try:
        made.wire()
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def agent(machine: Machine) -> Iterator[Path]:
    """The agent of this node, by a kubeconfig; yields its configuration file."""
    config = machine.directory / "podlock.yaml"
    settings = {
        "node": machine.world.node,
        "kubernetes": {"kubeconfig": str(machine.world.plane.kubeconfig("admin"))},
        "run_dir": str(machine.directory),
        "state_dir": str(machine.directory / "state"),
        "workers": 1,
        "redirect": {
            "pins": f"/sys/fs/bpf/podlock-{machine.world.namespace}",
            "cgroup": str(machine.cgroup),
        },
    }
    config.write_text(yaml.safe_dump(settings))
    log = machine.directory / "agent.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            podlock("run", "--config", config), stderr=out, cwd=REPOSITORY
        )
    try:
        yield config
    except BaseException as error:
        error.add_note(log.read_text()[-4000:])
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        remove = podlock("redirect", "remove", "--config", config)
        subprocess.run(remove, check=True, cwd=REPOSITORY)


def ask(machine: Machine, document: str) -> Any:
    """A document of the status socket, by the command that a person types."""
    command = podlock(document, "--json", "--socket", machine.directory / "agent.sock")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout else {}


def marked(world: World, name: str) -> bool:
    meta = world.read_pod(name)["metadata"]
    halves = (meta.get("annotations", {}), meta.get("labels", {}))
    one, other = (half.get("podlock.io/tunnel") == "hbone" for half in halves)
    assert one is other
    return bool(one)


def expose(world: World) -> str:
    """A Service of the pod api; its address."""
    spec = {"ports": [{"port": 80, "targetPort": 8080}]}
    service = {"metadata": {"name": "api"}, "spec": spec}
    address: str = world.post(f"{world.home}/services", service)["spec"]["clusterIP"]
    endpoint = {"addresses": [API], "conditions": {"ready": True}}
    labels = {"kubernetes.io/service-name": "api"}
    path = f"/apis/discovery.k8s.io/v1beta1/namespaces/{world.namespace}/endpointslices"
    world.post(
        path,
        {
            "metadata": {"name": "api-1", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [endpoint],
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        },
    )
    return address


def test_pods_join_talk_and_leave(world: World, tmp_path: Path) -> None:
    """
    Captured by their uid, marked, told of by an Event; a Service reached by tunnel,
    also while the API server is away; unmarked, in plaintext, once the label is gone.
    """
    with machine(world, tmp_path) as here, agent(here):
        here.pod("web", WEB)
        here.pod("api", API)
        (tmp_path / "www").mkdir()
        (tmp_path / "www/index.html").write_text("it works\n")
        www = ("--bind", API, "--directory", str(tmp_path / "www"), "8080")
        here.start("api", "python3", "-m", "http.server", *www)
        address = expose(world)
        until(lambda: marked(world, "web") and marked(world, "api"), 120)
        told = {"web": "MeshCaptured", "api": "MeshCaptured"}
        until(lambda: _events(world) == told, 60)

        until(lambda: here.fetch(f"http://{address}/") == "it works\n", 60)
        assert _paths(here) >= {("outbound", "tunnel", f"{world.namespace}/api")}

        world.plane.stop_server()
        assert here.fetch(f"http://{address}/") == "it works\n"
        until(lambda: "cannot be reached" in str(_why_not_ready(here)), 60)
        world.plane.start_server()
        until(lambda: not _why_not_ready(here), 60)

        path = f"/api/v1/namespaces/{world.namespace}"
        patch = {"metadata": {"labels": {"podlock.io/mesh": None}}}
        world.plane.admin("PATCH", path, patch)
        until(lambda: not marked(world, "web") and not marked(world, "api"), 60)
        until(lambda: ask(here, "status")["counts"]["captured"] == 0, 60)
        assert here.fetch(f"http://{API}:8080/") == "it works\n"


def _events(world: World) -> dict[str, str]:
    """The reason of each pod's Event."""
    found = world.plane.admin("GET", f"{world.home}/events")["items"]
    return {each["involvedObject"]["name"]: each["reason"] for each in found}


def _paths(here: Machine) -> set[tuple[str, str, str | None]]:
    found = ask(here, "connections")
    return {
        (each["direction"], each["path"], each["destination"]["service"])
        for each in (*found["open"], *found["recent"])
    }


def _why_not_ready(here: Machine) -> list[str]:
    reasons: list[str] = ask(here, "status").get("not_ready_because", ["no answer"])
    return reasons
