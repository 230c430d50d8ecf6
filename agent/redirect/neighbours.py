"""
Other tools' programs on the hooks that we use: who is there, and what it means.

The kernel runs all programs of a cgroup and of those above it, each after the other,
each with what the one before left. That needs that all were attached to share
(BPF_F_ALLOW_MULTI, as links always are): one that was attached alone shuts us out.
Source: Documentation/bpf/prog_cgroup_sockopt.rst, kernel/bpf/cgroup.c
(hierarchy_allows_attach, compute_effective_progs).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.findings import Finding
from agent.redirect.layout import AttachType

ALLOW_OVERRIDE: Final = 1
ALLOW_MULTI: Final = 2

# Prefixes of program names, as the tools' sources have them.
KNOWN: Final = {
    "cil_": "Cilium",
    "sock4_": "Cilium",
    "sock6_": "Cilium",
    "sd_": "systemd",
    "calico_": "Calico",
}
# Cilium's programs put a pod's address in place of a Service's, before or after us.
CILIUM: Final = (
    "it replaces Services' addresses, which Podlock follows; where connections go"
    " astray set its socketLB.hostNamespaceOnly"
)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The programs on one hook of one cgroup; `flags` is how they were attached."""

    cgroup: Path
    hook: AttachType
    flags: int
    programs: Sequence[tuple[int, str]]  # id and name


def findings(found: Sequence[Neighbours], ours: Collection[int]) -> Iterator[Finding]:
    """About every hook where there is somebody else; `ours`: ids of our programs."""
    others = [each for each in found if {id for id, _ in each.programs} - set(ours)]
    if not others:
        yield Finding("other programs", "none on our hooks")
    for each in others:
        yield _finding(each, ours)


def _finding(found: Neighbours, ours: Collection[int]) -> Finding:
    names = [
        f"{name or 'without a name'} (id {id}{_of(name)})"
        for id, name in found.programs
        if id not in ours
    ]
    subject = f"other programs at {found.hook.name}, {found.cgroup}"
    text = ", ".join(names)
    if found.flags & ALLOW_MULTI:
        cilium = any(_of(name) == ", Cilium" for _, name in found.programs)
        return Finding(
            subject, f"{text}; {CILIUM if cilium else 'it runs beside ours'}"
        )
    if found.flags & ALLOW_OVERRIDE:
        text += "; attached to be overridden: ours would take its place below there"
        advice = "have it attached with BPF_F_ALLOW_MULTI, or detach it"
    else:
        text += "; attached alone: the kernel lets nobody else in"
        advice = "have it attached with BPF_F_ALLOW_MULTI or by a link, or detach it"
    return Finding(subject, text, f"{advice}: bpftool cgroup detach {found.cgroup} ...")


def _of(name: str) -> str:
    known = (tool for prefix, tool in KNOWN.items() if name.startswith(prefix))
    return f", {tool}" if (tool := next(known, "")) else ""
