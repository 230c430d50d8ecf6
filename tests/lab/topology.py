"""
Two nodes on one machine, and the wire between them.

        n1                      wire                      n2
    bridge pods --- uplink === to-n1  to-n2 === uplink --- pods bridge
     |      |                (tcpdump, attacker)            |      |
    web   batch                                            api   cache

Each box is a network namespace: two nodes, a router between them (the wire), and one
namespace per pod. Links are made inside them, so the host's own network is never
touched. `Lab` is a context manager; `Lab.cleanup(run)` removes what any earlier run
of that name left behind, however it ended.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab import names, system
from tests.lab.names import Names
from tests.lab.pod import Pod
from tests.lab.reaper import Reaper

NODES: Final = {"n1": 1, "n2": 2, "n3": 3}
WIRE: Final = "wire"

# Addresses must be usable at once: no duplicate address detection. Traffic is
# dual-stack and asymmetric when the attacker sits in it: forward, no source checks.
_QUIET: Final = {
    f"ipv6/conf/{scope}/{name}": value
    for scope in ("all", "default")
    for name, value in {"accept_dad": "0", "accept_ra": "0", "forwarding": "0"}.items()
}
_ROUTER: Final = {
    **_QUIET,
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
}


def random_run() -> str:
    """A run name of its own, for a test."""
    return f"{names.RUN_PREFIX}t{secrets.token_hex(4)}"


def host_names(run: str) -> Names:
    """The names of a run on this machine."""
    return Names(run, names.find_cgroup2(Path("/proc/mounts").read_text()))


@dataclass(slots=True)
class LabNode:
    """One node: its namespace and the pods on it."""

    name: str
    number: int
    names: Names
    children: system.Children
    pods: list[Pod] = field(default_factory=list)

    @property
    def netns(self) -> Path:
        """The node's own network namespace, where its agent runs."""
        return self.names.namespace_path(self.name)

    @property
    def cgroup(self) -> Path:
        """The parent of its pods' cgroups: where the agent attaches."""
        return self.names.cgroup / self.name

    @property
    def pins(self) -> Path:
        """Where the agent pins its programs, links and maps."""
        return self.names.pins / self.name

    @property
    def directory(self) -> Path:
        """The agent's run directory."""
        return self.names.run_directory / self.name

    def run(self, *argv: str, seconds: float = 20.0) -> system.Finished:
        """Run a program as a process of the node itself, such as a kubelet's."""
        cgroup = self.cgroup / "system"
        cgroup.mkdir(exist_ok=True)
        command = system.inside(self.netns, cgroup, argv)
        return system.finished(command, self.name, seconds)

    def add_pod(
        self, name: str, namespace: str = "shop", service_account: str | None = None
    ) -> Pod:
        """Make a pod's namespace, cgroup and link; its manifest is the caller's."""
        pod = Pod(
            name=name,
            namespace=namespace,
            service_account=service_account or name,
            node=self.name,
            address=names.pod_address(self.number, len(self.pods)),
            netns=self.names.namespace_path(self.name, name),
            cgroup=self.names.pod_cgroup(self.name, name),
            directory=self.names.run_directory / "pods" / name,
            children=self.children,
        )
        pod.cgroup.mkdir(parents=True)
        pod.directory.mkdir(parents=True)
        self._connect(pod)
        self.pods.append(pod)
        return pod

    def _connect(self, pod: Pod) -> None:
        port = f"p{len(self.pods)}"
        gateway = names.gateway_address(self.number)
        add_namespace(pod.netns.name, _QUIET)
        ip = [
            f"link add name {port} type veth peer name eth0 netns {pod.netns.name}",
            f"link set {port} master br0 up",
        ]
        system.ip_batch(self.netns.name, ip)
        ip = [
            "link set lo up",
            f"address add {pod.address.v4}/24 dev eth0",
            f"address add {pod.address.v6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {gateway.v4}",
            f"route add ::/0 via {gateway.v6}",
        ]
        system.ip_batch(pod.netns.name, ip)


class Lab:
    """
    The two nodes and the wire, from `with Lab(run)` to the end of the block.

    Entering removes what an earlier run of that name left; leaving removes all, also
    on an exception or Ctrl-C, unless `keep` is set; a process that is killed leaves
    that to its `Reaper`.
    """

    def __init__(
        self, run: str | None = None, nodes: Sequence[str] = ("n1", "n2")
    ) -> None:
        self.names = host_names(run or random_run())
        self.children = system.Children()
        self.nodes = {
            name: LabNode(name, NODES[name], self.names, self.children)
            for name in nodes
        }
        self.keep = False
        self._reaper: Reaper | None = None

    def __enter__(self) -> Self:
        cleanup(self.names.run)
        self._reaper = Reaper(self.names.run)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.keep:
            self.close()
        elif self._reaper is not None:
            self._reaper.dismiss()

    def close(self) -> None:
        """Remove everything, and wait for every process that was started here."""
        cleanup(self.names.run)
        self.children.reap()
        if self._reaper is not None:
            self._reaper.dismiss()
            self._reaper = None

    @property
    def wire(self) -> Path:
        """The namespace between the nodes."""
        return self.names.namespace_path(WIRE)

    @property
    def directory(self) -> Path:
        """The run's folder for whatever a part needs."""
        return self.names.run_directory

    def host_cgroup(self, name: str) -> Path:
        """A cgroup outside of every node's redirect, made if it is missing."""
        cgroup = self.names.host_cgroup(name)
        cgroup.mkdir(parents=True, exist_ok=True)
        return cgroup

    @property
    def pods(self) -> list[Pod]:
        """Every pod of every node."""
        return [pod for node in self.nodes.values() for pod in node.pods]

    def _build(self) -> None:
        self.directory.mkdir(mode=0o755)
        self.names.cgroup.mkdir()
        mount_bpffs()
        add_namespace(self.wire.name, _ROUTER)
        system.ip_batch(self.wire.name, ["link set lo up"])
        for node in self.nodes.values():
            self._build_node(node)

    def _build_node(self, node: LabNode) -> None:
        node.cgroup.mkdir()
        node.directory.mkdir()
        add_namespace(node.netns.name, _ROUTER)
        here, there = names.node_address(node.number), names.wire_address(node.number)
        bridge = names.gateway_address(node.number)
        link = f"to-{node.name}"
        to_wire = [
            f"link add name {link} type veth peer name uplink netns {node.netns.name}",
            f"address add {there.v4}/24 dev {link}",
            f"address add {there.v6}/64 dev {link} nodad",
            f"link set {link} up",
        ]
        to_node = [
            "link set lo up",
            "link add name br0 type bridge forward_delay 0 mcast_snooping 0",
            f"address add {bridge.v4}/24 dev br0",
            f"address add {bridge.v6}/64 dev br0 nodad",
            "link set br0 up",
            f"address add {here.v4}/24 dev uplink",
            f"address add {here.v6}/64 dev uplink nodad",
            "link set uplink up",
            f"route add default via {there.v4}",
            f"route add ::/0 via {there.v6}",
        ]
        back = [
            f"route add 10.244.{node.number}.0/24 via {here.v4}",
            f"route add fd00:244:{node.number}::/64 via {here.v6}",
        ]
        system.ip_batch(self.wire.name, to_wire)
        system.ip_batch(node.netns.name, to_node)
        system.ip_batch(self.wire.name, back)


def add_namespace(name: str, sysctls: dict[str, str]) -> None:
    """Make a named network namespace and set its sysctls."""
    system.run("ip", "netns", "add", name)
    system.set_sysctls(names.NETNS_DIRECTORY / name, sysctls)


def mount_bpffs() -> None:
    """Mount the BPF file system where no init system has done so."""
    if f" {names.PIN_ROOT} bpf " not in Path("/proc/mounts").read_text():
        system.run("mount", "-t", "bpf", "bpf", str(names.PIN_ROOT))


def cleanup(run: str) -> None:
    """Remove everything that carries this run's name: processes first, files last."""
    its = host_names(run)
    system.remove_cgroup(its.cgroup)
    for namespace in sorted(names.NETNS_DIRECTORY.glob(f"{its.prefix}*")):
        system.run("ip", "netns", "delete", namespace.name)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(its.pins)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(its.run_directory)
