"""The kubelet is followed from cgroup to cgroup, and its absence is told once."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from agent.app import probes
from agent.app.probes import Probes
from agent.errors import KernelError
from agent.redirect.kubelet import Kubelet
from agent.redirect.pod_cgroups import Process
from agent.redirect.sideline import Sideline

ROOT = Path("/cgroup")
SERVICE = ROOT / "system.slice/kubelet.service"


class Bench:
    """A node whose kubelet comes and goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there: Kubelet | None = None
        self.attached: list[Path | None] = []
        self.told: list[str] = []
        self.fault = ""
        monkeypatch.setattr(probes, "find_kubelet", lambda *_: self.there)
        monkeypatch.setattr(probes, "is_still", lambda known: known == self.there)
        self.probes = Probes(
            cast(Sideline, self), 10250, ROOT, lambda kind, *_: self.told.append(kind)
        )

    def note_probes_of(self, cgroup: Path | None) -> None:
        if self.fault:
            raise KernelError(self.fault)
        self.attached.append(cgroup)

    def runs(self, pid: int, cgroup: Path = SERVICE) -> None:
        self.there = Kubelet(Process(pid, pid), cgroup)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_attached_once_and_again_when_it_was_started_again(bench: Bench) -> None:
    """Another process, even in a cgroup of the same name, is looked at anew."""
    bench.runs(7)
    bench.probes.look()
    bench.probes.look()
    bench.runs(8)
    bench.probes.look()
    assert bench.attached == [SERVICE, SERVICE]
    assert bench.told == ["probes", "probes"]


def test_nobody_there(bench: Bench) -> None:
    """Told once; what is attached stays, for it will mostly be back there."""
    bench.runs(7)
    bench.probes.look()
    bench.there = None
    bench.probes.look()
    bench.probes.look()
    assert bench.told == ["probes", "probes-unknown"]
    assert bench.attached == [SERVICE]
    bench.runs(8)
    bench.probes.look()
    assert bench.told[-1] == "probes"


def test_in_the_root_it_cannot_be_told_from_others(bench: Bench) -> None:
    """Then nothing is attached: every process of the node would be exempt."""
    bench.runs(7, ROOT)
    bench.probes.look()
    assert bench.told == ["probes-unknown"]
    assert bench.attached == []


def test_a_cgroup_that_goes_while_it_is_attached(bench: Bench) -> None:
    """Told, and tried again."""
    bench.runs(7)
    bench.fault = "no such directory"
    bench.probes.look()
    bench.fault = ""
    bench.probes.look()
    assert bench.told == ["probes-unknown", "probes"]
