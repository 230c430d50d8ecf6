"""
What the machine gives the redirect, besides the kernel's features: rights, mounts,
lockdown. Facts go in, findings come out; `preflight.py` reads the facts.

Source: capabilities(7), kernel_lockdown(7), cgroups(7), and the kernel's
Documentation/admin-guide/sysctl/kernel.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.findings import Finding
from agent.redirect.mounts import Mount, cgroup2_root, covering

# Numbers of uapi/linux/capability.h. SYS_ADMIN: setns into pods, mount bpffs, and BPF
# before Linux 5.8; NET_ADMIN: attach to cgroups, end sockets; BPF comes with SYS_ADMIN.
NEEDED_CAPABILITIES: Final = {21: "CAP_SYS_ADMIN", 12: "CAP_NET_ADMIN"}


class CgroupLayout(StrEnum):
    """Which versions of cgroups are mounted (systemd's names)."""

    PURE = "pure v2"
    HYBRID = "hybrid"
    LEGACY = "v1 only"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`is_real_root`: whether nothing is above the cgroup; None if that is wanted."""

    mounts: Sequence[Mount]
    filesystems: frozenset[str]
    capabilities: int  # a bit each, the effective ones
    unprivileged_bpf_disabled: str | None  # None: the kernel has no such setting
    lockdown: str | None  # none, integrity or confidentiality; None: not told
    has_btf: bool
    is_real_root: bool | None


def cgroup_layout(mounts: Sequence[Mount]) -> CgroupLayout:
    """Of what is mounted now; Podlock uses version 2 in either case."""
    kinds = {mount.kind for mount in mounts}
    if "cgroup2" in kinds:
        return CgroupLayout.HYBRID if "cgroup" in kinds else CgroupLayout.PURE
    return CgroupLayout.LEGACY if "cgroup" in kinds else CgroupLayout.NONE


def findings(seen: Surroundings, pins: Path) -> Iterator[Finding]:
    """Everything, in the order in which it would stop a start."""
    yield _rights(seen)
    yield _cgroups(seen)
    yield _pins(seen, pins)
    yield _lockdown(seen)
    yield _btf(seen)


def _rights(seen: Surroundings) -> Finding:
    missing = [
        name
        for bit, name in NEEDED_CAPABILITIES.items()
        if not seen.capabilities >> bit & 1
    ]
    others = {"0": "may too", "1": "may not", "2": "may not, an administrator can let"}
    setting = others.get(seen.unprivileged_bpf_disabled or "", "may or not")
    if missing:
        text = f"{', '.join(missing)} missing (kernel.unprivileged_bpf_disabled="
        text += f"{seen.unprivileged_bpf_disabled})"
        advice = "run as root, in Kubernetes with these under securityContext"
        return Finding("rights", text, advice)
    return Finding("rights", f"ours suffice; unprivileged users {setting} use bpf(2)")


def _cgroups(seen: Surroundings) -> Finding:
    layout, root = cgroup_layout(seen.mounts), cgroup2_root(seen.mounts)
    if root is None:
        advice = (
            "mkdir /sys/fs/cgroup/unified and mount -t cgroup2 none there, or boot with"
            " systemd.unified_cgroup_hierarchy=1"
        )
        return Finding("cgroups", f"{layout}: no version 2 is mounted", advice)
    if seen.is_real_root is False:
        text = f"{layout}: {root} is not the machine's root, but part of it"
        advice = (
            "pods outside it would not be redirected: give the agent the host's cgroup"
            " file system and cgroup namespace (hostPath /sys/fs/cgroup), or name the"
            " pods' cgroup as redirect.cgroup"
        )
        return Finding("cgroups", text, advice)
    return Finding("cgroups", f"{layout}, version 2 at {root}")


def _pins(seen: Surroundings, pins: Path) -> Finding:
    mount = covering(pins, seen.mounts)
    if mount is not None and mount.kind == "bpf":
        return Finding("bpffs", f"mounted at {mount.point}")
    if "bpf" not in seen.filesystems:
        advice = "a kernel with CONFIG_BPF_SYSCALL is needed"
        return Finding("bpffs", "this kernel does not have it", advice)
    if pins.is_relative_to("/sys/fs/bpf"):
        return Finding("bpffs", "not mounted; the agent mounts it at /sys/fs/bpf")
    advice = f"mount -t bpf bpf {pins.parent}, or leave redirect.pins as it is"
    return Finding("bpffs", f"redirect.pins {pins} is not in a bpffs", advice)


def _lockdown(seen: Surroundings) -> Finding:
    # What lockdown takes from BPF is reading and writing kernel memory, by tracing
    # programs; ours read their contexts and maps alone.
    mode = seen.lockdown or "not told"
    return Finding("lockdown", f"{mode}; our programs read no kernel memory")


def _btf(seen: Surroundings) -> Finding:
    told = "known" if seen.has_btf else "unknown (no /sys/kernel/btf/vmlinux)"
    return Finding("kernel types", f"{told}; not needed: programs bring their own")
