"""Which process is the kubelet, by a /proc and a cgroup tree of the test's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.redirect.kubelet import find_kubelet, is_still, listening_inodes

PORT = 10250
HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
    "  timeout inode"
)
SERVICE = "system.slice/kubelet.service"
POD = "kubepods/burstable/pod2c48913c-b29f-4fe2-9d8a-6b6b1a9a1f11/abc"


def row(port: int = PORT, state: str = "0A", uid: int = 0, inode: int = 77) -> str:
    """A line of /proc/net/tcp."""
    return (
        f"   0: 0100C70A:{port:04X} 00000000:0000 {state} 00000000:00000000 "
        f"00:00000000 00000000 {uid:5}        0 {inode} 1 0 100 0 0 10 0"
    )


@dataclass(frozen=True)
class Node:
    """A /proc and a cgroup v2."""

    root: Path

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def cgroups(self) -> Path:
        return self.root / "cgroup"

    def listens(self, *rows: str) -> None:
        """The node's own sockets."""
        net = self.proc / "self/net"
        net.mkdir(parents=True, exist_ok=True)
        (net / "tcp6").write_text("\n".join([HEAD, *rows]) + "\n")

    def process(self, pid: int, cgroup: str, inode: int, started: int = 500) -> None:
        """A process that holds a socket."""
        home = self.proc / str(pid)
        (home / "fd").mkdir(parents=True)
        os.symlink(f"socket:[{inode}]", home / "fd/9")
        fields = ["S", *["0"] * 18, str(started), "0"]
        (home / "stat").write_text(f"{pid} (k) {' '.join(fields)}\n")
        place = self.cgroups / cgroup
        place.mkdir(parents=True, exist_ok=True)
        with (place / "cgroup.procs").open("a") as procs:
            procs.write(f"{pid}\n")

    def found(self) -> Path | None:
        """The cgroup of the kubelet."""
        kubelet = find_kubelet(PORT, self.cgroups, self.proc)
        return kubelet.cgroup if kubelet else None


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    made.cgroups.mkdir()
    made.listens(row())
    return made


def test_it_is_who_listens_on_the_port(node: Node) -> None:
    """Others of the node are not asked for their names."""
    node.process(10, "system.slice/sshd.service", inode=70)
    node.process(11, SERVICE, inode=77)

    assert node.found() == node.cgroups / SERVICE


@pytest.mark.parametrize("path", [POD, "kubepods.slice/x", "kubelet-kubepods.slice/y"])
def test_a_pod_never_is(node: Node, path: str) -> None:
    """A pod on the host's network that takes the port while the kubelet is away."""
    node.process(11, path, inode=77)

    assert node.found() is None


def test_nobody_listens(node: Node) -> None:
    """Connections from that port, to it, or of another user do not count."""
    node.listens(row(state="01"), row(port=10255), row(uid=1000))
    node.process(11, SERVICE, inode=77)

    assert node.found() is None


def test_lines_that_are_cut_short_are_passed_over() -> None:
    """What is read while it changes."""
    assert listening_inodes(f"{HEAD}\n 0: 0100C70A:280A\n{row()}\n", PORT) == {77}


def test_it_is_the_same_until_it_ends_or_moves(node: Node) -> None:
    """A process id that another process got is another process."""
    node.process(11, SERVICE, inode=77)
    kubelet = find_kubelet(PORT, node.cgroups, node.proc)
    assert kubelet is not None
    assert is_still(kubelet, node.proc)

    stat = node.proc / "11/stat"
    stat.write_text(stat.read_text().replace(" 500 ", " 501 "))

    assert not is_still(kubelet, node.proc)
    stat.write_text(stat.read_text().replace(" 501 ", " 500 "))
    (node.cgroups / SERVICE / "cgroup.procs").write_text("")
    assert not is_still(kubelet, node.proc)
