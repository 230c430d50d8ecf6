"""What a machine is, told with what to do about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.findings import Finding
from agent.redirect.mounts import Mount
from agent.redirect.surroundings import (
    CgroupLayout,
    Surroundings,
    cgroup_layout,
    findings,
)

PINS = Path("/sys/fs/bpf/podlock")
BPFFS = Mount(Path("/sys/fs/bpf"), "bpf")
V2 = Mount(Path("/sys/fs/cgroup"), "cgroup2")
V2_BESIDE = Mount(Path("/sys/fs/cgroup/unified"), "cgroup2")
V1 = Mount(Path("/sys/fs/cgroup/memory"), "cgroup")
ALL_RIGHTS = (1 << 41) - 1
WELL = Surroundings(
    mounts=(V2, BPFFS),
    filesystems=frozenset({"bpf", "cgroup2"}),
    capabilities=ALL_RIGHTS,
    unprivileged_bpf_disabled="2",
    lockdown="none",
    has_btf=True,
    is_real_root=True,
)


def about(subject: str, seen: Surroundings, pins: Path = PINS) -> Finding:
    (found,) = (each for each in findings(seen, pins) if each.subject == subject)
    return found


def test_a_machine_that_is_well() -> None:
    """Nothing asks for anything."""
    assert all(each.is_well for each in findings(WELL, PINS))


@pytest.mark.parametrize(
    ("mounts", "layout"),
    [
        ((V2,), CgroupLayout.PURE),
        ((V1, V2_BESIDE), CgroupLayout.HYBRID),
        ((V1,), CgroupLayout.LEGACY),
        ((), CgroupLayout.NONE),
    ],
)
def test_layouts_of_cgroups(mounts: tuple[Mount, ...], layout: CgroupLayout) -> None:
    """Pure and hybrid do; where there is no version 2 it says how to get it."""
    assert cgroup_layout(mounts) is layout
    found = about("cgroups", replace(WELL, mounts=(*mounts, BPFFS)))
    assert found.is_well == (layout in (CgroupLayout.PURE, CgroupLayout.HYBRID))
    assert str(layout) in found.message
    if not found.is_well:
        assert "mount -t cgroup2" in found.advice


def test_a_part_of_the_cgroups() -> None:
    """In a container with a cgroup namespace of its own no pod would be redirected."""
    found = about("cgroups", replace(WELL, is_real_root=False))
    assert "/sys/fs/cgroup is not the machine's root" in found.message
    assert "hostPath" in found.advice


@pytest.mark.parametrize(
    ("seen", "pins", "well", "words"),
    [
        (replace(WELL, mounts=(V2,)), PINS, True, "the agent mounts it"),
        (replace(WELL, mounts=(V2,)), Path("/x/pins"), False, "mount -t bpf bpf /x"),
        (replace(WELL, mounts=(V2,), filesystems=frozenset()), PINS, False, "kernel"),
        (WELL, Path("/tmp/pins"), False, "mount -t bpf bpf /tmp"),
    ],
)
def test_bpffs(seen: Surroundings, pins: Path, well: bool, words: str) -> None:
    """Mounted, mounted by us, or it says what to mount."""
    found = about("bpffs", seen, pins)
    assert found.is_well is well
    assert words in (found.message if well else found.advice)


@pytest.mark.parametrize(
    ("without", "name"), [(21, "CAP_SYS_ADMIN"), (12, "CAP_NET_ADMIN")]
)
def test_a_right_that_is_missing(without: int, name: str) -> None:
    """Named, with the setting that makes others' bpf(2) fail."""
    seen = replace(WELL, capabilities=ALL_RIGHTS & ~(1 << without))
    found = about("rights", seen)
    assert name in found.message
    assert "unprivileged_bpf_disabled=2" in found.message
    assert "root" in found.advice


@pytest.mark.parametrize("mode", ["none", "integrity", "confidentiality", None])
def test_lockdown_is_no_obstacle(mode: str | None) -> None:
    """It is told and no more: our programs read no kernel memory."""
    found = about("lockdown", replace(WELL, lockdown=mode))
    assert found.is_well
    assert (mode or "not told") in found.message


def test_kernel_types_are_not_needed() -> None:
    """A kernel without BTF does."""
    found = about("kernel types", replace(WELL, has_btf=False))
    assert found.is_well
    assert "not needed" in found.message
