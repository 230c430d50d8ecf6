"""Where the gate stands, and whom it lets through, over a map in memory."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import cast

import pytest

from agent.errors import KernelError
from agent.redirect import gate as gates
from agent.redirect.gate import Gate, roots_of_pods
from agent.redirect.kernel import RedirectMaps
from agent.redirect.sideline import Sideline

NODE = 1


class FakeMaps:
    def __init__(self) -> None:
        self.cookies: set[int] = set()

    def judge(self, cookie: int) -> None:
        self.cookies.add(cookie)

    def unjudge(self, cookie: int) -> None:
        self.cookies.discard(cookie)

    def judged(self) -> set[int]:
        return set(self.cookies)


class FakeSideline:
    guarded: tuple[Path, ...] = ()

    def guard(self, cgroups: Collection[Path]) -> None:
        self.guarded = tuple(cgroups)


class Bench:
    """A gate; a namespace is a file, and its cookie what is written in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.maps, self.sideline = FakeMaps(), FakeSideline()
        self.gate = Gate(
            cast(RedirectMaps, self.maps),
            cast(Sideline, self.sideline),
            root / "cgroup",
        )

    def netns(self, name: str, cookie: int) -> str:
        path = self.root / name
        path.write_text(str(cookie))
        return str(path)

    def cgroups(self, *paths: str) -> list[Path]:
        made = [self.root / "cgroup" / path for path in paths]
        for path in made:
            path.mkdir(parents=True)
        return made


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(gates, "own_netns_cookie", lambda: NODE)
    monkeypatch.setattr(
        gates,
        "netns_cookie_of",
        lambda fd: int(Path(f"/proc/self/fd/{fd}").read_text()),
    )
    return Bench(tmp_path)


@pytest.mark.parametrize(
    "path", ["kubepods", "kubepods.slice", "kubelet.slice/kubelet-kubepods.slice"]
)
def test_it_stands_where_pods_are(bench: Bench, path: str) -> None:
    """Not where the node's own services are, nor twice in one branch."""
    bench.cgroups("system.slice/containerd.service", f"{path}/burstable")
    (root,) = bench.gate.shut()
    assert root == bench.root / "cgroup" / path
    assert bench.sideline.guarded == (root,)
    assert bench.maps.cookies == {NODE}
    assert list(roots_of_pods(root)) == [root]
    bench.gate.open()
    assert not bench.sideline.guarded


def test_a_node_without_a_kubelet_has_no_place_for_it(bench: Bench) -> None:
    """It is looked for again."""
    assert bench.gate.shut() == []


def test_who_is_let_through_and_no_more(bench: Bench) -> None:
    """What an agent before this one judged goes, except the node's own."""
    bench.maps.cookies = {NODE, 66}
    outside = {"a": bench.netns("a", 10), "b": bench.netns("b", 11)}
    bench.gate.admit(outside)
    assert bench.maps.cookies == {NODE, 66, 10, 11}
    bench.gate.retain(outside)
    assert bench.maps.cookies == {NODE, 10, 11}
    del outside["a"]
    bench.gate.retain(outside)
    assert bench.maps.cookies == {NODE, 11}


def test_a_sandbox_that_was_made_anew(bench: Bench) -> None:
    """The same pod in another namespace: that one is let through, the old one not."""
    bench.maps.cookies = {NODE}
    bench.gate.admit({"a": bench.netns("a", 10)})
    again = {"a": bench.netns("again", 12)}
    bench.gate.admit(again)
    bench.gate.retain(again)
    assert bench.maps.cookies == {NODE, 12}


def test_a_namespace_that_is_gone_holds_up_nobody(bench: Bench) -> None:
    """The others are let through, and the fault names the pod."""
    outside = {"gone": "/nowhere", "b": bench.netns("b", 11)}
    with pytest.raises(KernelError, match="pod gone"):
        bench.gate.admit(outside)
    assert 11 in bench.maps.cookies
