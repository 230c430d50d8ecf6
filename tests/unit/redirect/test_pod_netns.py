"""Pods' namespaces over recorded trees: v1, v2, hybrid; both drivers; both runtimes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.redirect.pod_netns import PodNamespaces

UID = "2c48913c-b29f-11e7-9350-020968147796"
SYSTEMD = UID.replace("-", "_")
STAT = "{pid} (pause) S" + " 0" * 18 + " {started} 0"


class Tree:
    """A /proc and cgroup hierarchies of files; namespaces are files, by inode."""

    def __init__(self, root: Path) -> None:
        self.root, self.proc = root, root / "proc"
        self.namespaces = root / "ns"
        self.namespaces.mkdir()
        self.process("self", "node", 0)

    def process(self, pid: object, netns: str, started: int) -> None:
        """A process in the namespace of that name."""
        home, there = self.proc / str(pid), self.namespaces / netns
        there.touch()
        (home / "ns").mkdir(parents=True)
        (home / "ns/net").symlink_to(there)
        (home / "stat").write_text(STAT.format(pid=pid, started=started))

    def cgroup(self, path: str, *pids: int) -> None:
        """The cgroup of a container, or of a pod."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def end(self, pid: int) -> None:
        """The process is gone from /proc, and from no cgroup yet."""
        for file in ("ns/net", "stat"):
            (self.proc / str(pid) / file).unlink()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def pods(tree: Tree) -> Iterator[PodNamespaces]:
    made = PodNamespaces([tree.root / "v1", tree.root / "v2"], tree.proc)
    yield made
    made.close()


def inode(pods: PodNamespaces) -> int | None:
    path = pods.path(UID)
    return os.stat(path).st_ino if path else None


LAYOUTS = {
    "containerd, cgroupfs, v1": (
        f"v1/memory/kubepods/besteffort/pod{UID}/4f5d",
        f"v1/memory/kubepods/besteffort/pod{UID}/77aa",
    ),
    "containerd, systemd, v2": (
        f"v2/kubepods.slice/kubepods-pod{SYSTEMD}.slice/cri-containerd-4f5d.scope",
        f"v2/kubepods.slice/kubepods-pod{SYSTEMD}.slice/cri-containerd-77aa.scope",
    ),
    "CRI-O, systemd, v2": (
        f"v2/kubepods.slice/kubepods-burstable.slice/"
        f"kubepods-burstable-pod{SYSTEMD}.slice/crio-4f5d.scope",
        f"v2/kubepods.slice/kubepods-burstable.slice/"
        f"kubepods-burstable-pod{SYSTEMD}.slice/crio-77aa.scope/container",
    ),
    "kind, hybrid": (
        f"v1/pids/kubelet.slice/kubelet-kubepods.slice/"
        f"kubelet-kubepods-pod{SYSTEMD}.slice/cri-containerd-4f5d.scope",
        f"v2/kubelet.slice/kubelet-kubepods.slice/"
        f"kubelet-kubepods-pod{SYSTEMD}.slice/cri-containerd-77aa.scope",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tree: Tree, pods: PodNamespaces, layout: tuple[str, str]) -> None:
    """The sandbox's process is found below the pod's cgroup, wherever that lies."""
    sandbox, container = layout
    tree.process(70, "pod", 100)
    tree.process(80, "stray", 200)
    tree.cgroup(sandbox, 70)
    tree.cgroup(container, 80)
    assert pods.look({UID})
    assert inode(pods) == (tree.namespaces / "pod").stat().st_ino
    assert not pods.look({UID})


def test_the_cgroup_comes_before_its_process(tree: Tree, pods: PodNamespaces) -> None:
    """A pod that is not there yet, and one whose first process has not entered."""
    assert not pods.look({UID})
    tree.cgroup(f"v2/kubepods/pod{UID}/4f5d", 70, 99999)
    assert not pods.look({UID})
    tree.process(70, "pod", 100)
    tree.process(60, "node", 50)
    tree.cgroup(f"v2/kubepods/pod{UID}/4f5d", 60, 70)
    assert pods.look({UID})
    assert inode(pods) == (tree.namespaces / "pod").stat().st_ino


def test_a_sandbox_is_made_anew(tree: Tree, pods: PodNamespaces) -> None:
    """While nobody is in the new one the old one is in force, and held open."""
    tree.process(70, "pod", 100)
    tree.cgroup(f"v2/kubepods/pod{UID}/4f5d", 70)
    pods.look({UID})
    before = pods.path(UID)
    tree.end(70)
    assert not pods.look({UID})
    assert pods.path(UID) == before
    tree.process(90, "pod again", 300)
    tree.cgroup(f"v2/kubepods/pod{UID}/88bb", 90)
    assert pods.look({UID})
    assert inode(pods) == (tree.namespaces / "pod again").stat().st_ino
    assert before is not None
    assert os.stat(before).st_ino == (tree.namespaces / "pod").stat().st_ino
    pods.keep({UID})
    assert not os.path.exists(before)


def test_addresses_that_cannot_be_read(tree: Tree, pods: PodNamespaces) -> None:
    """A recorded namespace is none that could be entered: then there are none."""
    tree.process(70, "pod", 100)
    tree.cgroup(f"v2/kubepods/pod{UID}/4f5d", 70)
    assert pods.look({UID})
    assert pods.addresses(UID) == ()
    assert pods.addresses("another") == ()


def test_only_where_others_are(tree: Tree, pods: PodNamespaces) -> None:
    """A walk over all cgroups is for once in a while, unless nothing is known."""
    other = "00000000-b29f-11e7-9350-020968147796"
    tree.cgroup(f"v2/kubepods/besteffort/pod{other}")
    tree.process(70, "pod", 100)
    assert not pods.look({other}, everywhere=False)
    tree.cgroup(f"v2/kubepods/pod{UID}/4f5d", 70)
    assert not pods.look({UID}, everywhere=False)
    assert pods.look({UID})


def test_a_pod_that_is_gone_is_let_go(tree: Tree, pods: PodNamespaces) -> None:
    """Not when its processes end, but when nobody asks for it any more."""
    tree.process(70, "pod", 100)
    tree.cgroup(f"v2/kubepods/pod{UID}/4f5d", 70)
    pods.look({UID})
    path = pods.path(UID)
    assert path is not None
    pods.keep(())
    assert pods.path(UID) is None
    assert not os.path.exists(path)
