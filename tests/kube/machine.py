"""
One node's machine beside a real API server, and `podlock run` on it.

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

import yaml

from agent.redirect.mounts import cgroup2_root, parse_mounts
from tests.kube.world import World
from tests.lab import system

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
def agent(machine: Machine, kubeconfig: Path | None = None) -> Iterator[Path]:
    """The agent of this node, by a kubeconfig; yields its configuration file."""
    kubeconfig = kubeconfig or machine.world.plane.kubeconfig("admin")
    config = machine.directory / "podlock.yaml"
    settings = {
        "node": machine.world.node,
        "kubernetes": {"kubeconfig": str(kubeconfig)},
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


def check(machine: Machine) -> tuple[int, str]:
    """Exit code and output of `podlock check`."""
    command = podlock("check", "--socket", machine.directory / "agent.sock")
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    return done.returncode, done.stdout
