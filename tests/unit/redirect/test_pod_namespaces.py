"""A pod's namespace is found by its uid, held, and never the host's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.redirect.pod_namespaces import PodNamespaces
from tests.unit.redirect.test_pod_cgroups import PATHS, UID

CGROUPFS = PATHS["cgroupfs, containerd"]


class Machine:
    """Trees as a kernel shows them; a namespace is a file, known by its inode."""

    def __init__(self, directory: Path) -> None:
        self.proc, self.cgroup = directory / "proc", directory / "cgroup"
        self.cgroup.mkdir()
        self._namespaces = directory / "namespaces"
        self._namespaces.mkdir()
        self.now = 0.0
        self.process(1, "host", "/init", started=1)
        (self.proc / "self").symlink_to("1")
        self.found = PodNamespaces([self.cgroup], self.proc, lambda: self.now)

    def process(self, pid: int, netns: str, path: str, *, started: int) -> None:
        """A process in a network namespace and a cgroup."""
        home = self.proc / str(pid)
        (home / "ns").mkdir(parents=True)
        namespace = self._namespaces / netns
        namespace.touch()
        (home / "ns/net").symlink_to(namespace)
        rest = " ".join(["0"] * 18)
        (home / "stat").write_text(f"{pid} (some name) S {rest} {started} 0 0\n")
        (home / "cgroup").write_text(f"0::{path}\n")
        directory = self.cgroup / path.strip("/")
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "cgroup.procs").open("a") as procs:
            procs.write(f"{pid}\n")

    def ends(self, pid: int, path: str) -> None:
        home = self.proc / str(pid)
        for file in (home / "ns/net", home / "stat", home / "cgroup"):
            file.unlink()
        (home / "ns").rmdir()
        home.rmdir()
        procs = self.cgroup / path.strip("/") / "cgroup.procs"
        left = [line for line in procs.read_text().split() if line != str(pid)]
        procs.write_text("".join(f"{line}\n" for line in left))

    def netns(self, uid: str = UID) -> str | None:
        """The name of the namespace that is given out for a pod."""
        self.now += 10.0
        path = self.found.netns_of(uid)
        return Path(os.readlink(path)).name if path else None


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.found.close()


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_in_every_layout(machine: Machine, path: str) -> None:
    """Found but where a container made the cgroup itself, or by another's view."""
    machine.process(70, "web", path, started=500)
    odd = path in (
        PATHS["below the container's own"],
        PATHS["seen from another cgroup namespace"],
    )
    assert (machine.netns() == "web") is not odd


def test_nothing_before_the_sandbox_is_there(machine: Machine) -> None:
    """Then it is told that there is something to look at."""
    assert machine.netns() is None
    assert not machine.found.look_again()
    machine.process(70, "web", CGROUPFS, started=500)
    machine.now += 10
    assert machine.found.look_again()
    assert not machine.found.look_again()
    assert machine.netns() == "web"


def test_the_sandboxs_namespace_counts(machine: Machine) -> None:
    """A younger process may be in one that it made: an engine inside a container."""
    other = CGROUPFS.replace("3f", "4a")
    machine.process(60, "inner", other, started=900)
    machine.process(4000, "web", CGROUPFS, started=500)
    assert machine.netns() == "web"


@pytest.mark.parametrize("netns", ["host"])
def test_the_hosts_network_is_nobodys(machine: Machine, netns: str) -> None:
    """A shim or monitor in a pod's cgroup must not make the node a pod."""
    machine.process(70, netns, CGROUPFS, started=400)
    assert machine.netns() is None
    machine.process(71, "web", CGROUPFS, started=500)
    assert machine.netns() == "web"


def test_a_monitor_is_passed_over(machine: Machine) -> None:
    """It is older than the pod's own processes."""
    monitor = CGROUPFS.replace("/3f", "/crio-conmon-3f")
    machine.process(69, "elsewhere", monitor, started=400)
    machine.process(70, "web", CGROUPFS, started=500)
    assert machine.netns() == "web"


@pytest.mark.parametrize("above", ["/docker/3f", "/docker/3f/kubelet.slice"])
def test_a_cluster_inside_a_container(machine: Machine, above: str) -> None:
    """It is a copy of ours, uids and all, and its pod is older."""
    machine.process(70, "copy", above + CGROUPFS, started=400)
    machine.process(71, "web", CGROUPFS, started=500)
    assert machine.netns() == "web"


def test_a_cgroup_that_a_user_made(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a part of the tree that is theirs, with a namespace of their own."""
    below = f"/user.slice/user-1000.slice/user@1000.service{CGROUPFS}"
    machine.process(70, "fake", below, started=400)
    monkeypatch.setattr(os, "geteuid", lambda: machine.cgroup.stat().st_uid + 1000)
    assert machine.netns() is None


def test_a_process_id_that_is_used_again(machine: Machine) -> None:
    """cgroup.procs was read, the process ended, its number is another's by now."""
    machine.process(70, "web", CGROUPFS, started=500)
    machine.ends(70, CGROUPFS)
    (machine.cgroup / CGROUPFS.strip("/") / "cgroup.procs").write_text("70\n")
    machine.process(70, "stranger", "/system.slice/other", started=900)
    assert machine.netns() is None


def test_is_held_while_containers_restart(machine: Machine) -> None:
    """Between two containers of a pod without a pause process nobody is there."""
    machine.process(70, "web", CGROUPFS, started=500)
    first = machine.found.netns_of(UID)
    machine.ends(70, CGROUPFS)
    assert machine.netns() == "web"
    machine.process(80, "web", CGROUPFS, started=900)
    assert machine.netns() == "web"
    assert machine.found.netns_of(UID) == first


def test_a_sandbox_that_is_made_anew(machine: Machine) -> None:
    """Another namespace under the same uid is another path."""
    machine.process(70, "web", CGROUPFS, started=500)
    before = machine.found.netns_of(UID)
    machine.ends(70, CGROUPFS)
    machine.process(80, "web again", CGROUPFS, started=900)
    assert machine.netns() == "web again"
    assert machine.found.netns_of(UID) != before


def test_what_is_not_kept_is_closed(machine: Machine) -> None:
    """A namespace lives as long as somebody holds it."""
    machine.process(70, "web", CGROUPFS, started=500)
    path = machine.found.netns_of(UID)
    assert path is not None
    machine.found.keep({UID})
    assert Path(path).exists()
    machine.found.keep(set())
    assert not Path(path).exists()
