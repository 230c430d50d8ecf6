"""A pod's processes by the names of its cgroups, in every layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.redirect.pod_cgroups import (
    InvalidProcess,
    Process,
    belongs,
    by_age,
    is_class,
    is_container,
    is_root,
    parse_pids,
    pod_uid,
    started_ticks,
)

UID = "0c2a1b1e-8d54-4f0d-9a53-6f7f5b8f9a11"
UNDERSCORED = UID.replace("-", "_")
ID = "3f" * 32

# As kubelets and runtimes wrote them; each is a process of the pod UID.
PATHS = {
    "cgroupfs, containerd": f"/kubepods/burstable/pod{UID}/{ID}",
    "cgroupfs, CRI-O": f"/kubepods/besteffort/pod{UID}/crio-{ID}",
    "cgroupfs, guaranteed": f"/kubepods/pod{UID}/{ID}",
    "a node's own cgroup": f"/cluster/node1/kubepods/besteffort/pod{UID}/{ID}",
    "systemd, containerd": (
        f"/kubepods.slice/kubepods-burstable.slice/"
        f"kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope"
    ),
    "systemd, CRI-O": (
        f"/kubepods.slice/kubepods-besteffort.slice/"
        f"kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{ID}.scope"
    ),
    "systemd, guaranteed": (
        f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope"
    ),
    "kind": (
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
        f"kubelet-kubepods-besteffort-pod{UNDERSCORED}.slice/cri-containerd-{ID}.scope"
    ),
    "seen from another cgroup namespace": f"/../../kubepods/pod{UID}/{ID}",
    "below the container's own": f"/kubepods/pod{UID}/{ID}/system.slice/inner",
}


class TestPaths:
    @pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
    def test_of_a_pod(self, path: str) -> None:
        """In v2 alone, in v1 with many lines, and in both at once."""
        assert belongs(f"0::{path}\n", UID)
        assert belongs(f"12:pids:{path}\n3:cpu,cpuacct:{path}\n0::/\n", UID)
        assert not belongs(f"0::{path}\n", UID.replace("1", "2"))

    @pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
    def test_are_found_from_the_top(self, path: str) -> None:
        """Root, class and pod are each told by their name."""
        parts = [part for part in path.split("/") if part not in ("", "..")]
        roots = [number for number, part in enumerate(parts) if is_root(part)]
        pods = [n for n, part in enumerate(parts) if pod_uid(part) == UID]
        assert len(roots) == len(pods) == 1
        between = parts[roots[0] + 1 : pods[0]]
        assert all(is_class(part) for part in between)
        assert len(between) <= 1

    @pytest.mark.parametrize(
        "path",
        [
            "/",
            "/system.slice/kubelet.service",
            "/system.slice/containerd.service",
            f"/kubepods/besteffort/pod{UID}/crio-conmon-{ID}",
            f"/machine.slice/libpod-{ID}.scope",
            f"/kubepods/burstable/pod{UID}x/{ID}",
            f"/kubepods/burstable/xpod{UID}/{ID}",
            "/kubepods/burstable/pod" + "ab" * 16 + f"/{ID}",  # a static pod's hash
        ],
    )
    def test_of_others(self, path: str) -> None:
        """The host's, a monitor's, a static pod's."""
        assert not belongs(f"0::{path}\n", UID)

    @pytest.mark.parametrize(
        ("name", "there"),
        [
            (ID, True),
            (f"crio-{ID}.scope", True),
            (f"cri-containerd-{ID}.scope", True),
            (f"crio-conmon-{ID}.scope", False),
            (f"crio-conmon-{ID}", False),
            ("conmon-x", False),
        ],
    )
    def test_containers(self, name: str, there: bool) -> None:
        """A monitor runs on the host's network, whatever cgroup it is in."""
        assert is_container(name) is there

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Names are somebody else's; none of them raises."""
        assert pod_uid(text) is None or len(text) >= 39
        assert not belongs(text, UID) or UID[:8] in text


class TestProcesses:
    def test_the_oldest_first(self) -> None:
        """Not the smallest number, which may have been used again."""
        young, old = Process(900, 17), Process(100, 4000)
        assert by_age({young, old}) == [old, young]

    def test_start_time(self) -> None:
        """After a name that somebody chose with care."""
        fields = " ".join(str(number) for number in range(4, 40))
        assert started_ticks(f"17 (a) b) R 1) S {fields}") == 22

    @pytest.mark.parametrize("text", ["", "17", "17 (a) S 1 2", "17 (a) " + "x " * 40])
    def test_what_is_no_stat(self, text: str) -> None:
        """Is an error of ours."""
        with pytest.raises(InvalidProcess):
            started_ticks(text)

    def test_pids(self) -> None:
        """Those of another pid namespace come as 0."""
        assert parse_pids("17\n0\n4000\n") == [17, 4000]
        assert parse_pids("") == []
