"""
Before an agent starts, and without touching what is there: can this node carry the
redirect? Reads the machine, tries the kernel's features, asks who else is attached.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.errors import PodlockError
from agent.findings import Finding
from agent.redirect import (
    bpffs,
    features,
    libbpf,
    neighbours,
    pins,
    surroundings,
    tried,
)
from agent.redirect.features import Level, Outcome
from agent.redirect.headers import asm_headers
from agent.redirect.layout import CGROUP_HOOKS, HOOKS, AttachType, PinLayout
from agent.redirect.mounts import cgroup2_root, covering
from agent.redirect.neighbours import Neighbours
from agent.redirect.surroundings import Surroundings

_MAX_PROGRAMS: Final = 64  # the kernel's BPF_CGROUP_MAX_PROGS


def findings(pins_at: Path, cgroup: Path | None) -> list[Finding]:
    """Everything that was looked at, in the order in which it would stop a start."""
    seen = look(cgroup)
    found = [*surroundings.findings(seen, pins_at), _tools()]
    try:
        attach_to = bpffs.find_cgroup(cgroup)
    except PodlockError as error:
        if cgroup is not None:
            advice = "name a folder of cgroup v2 as redirect.cgroup, or none"
            found.append(Finding("redirect.cgroup", str(error), advice))
        return found
    try:
        outcomes = tried.examine(attach_to)
    except PodlockError as error:
        return [*found, Finding("kernel", str(error), "install what it names")]
    found += (_of_feature(each) for each in outcomes)
    if outcomes[0].level is Level.NATIVE:
        found += _others(attach_to, PinLayout(pins_at))
    return found


def _others(cgroup: Path, layout: PinLayout) -> list[Finding]:
    try:
        ours = set(_own_programs(layout))
        return list(neighbours.findings(list(attached(cgroup)), ours))
    except PodlockError as error:  # Linux 6.1 tells nobody without CAP_NET_ADMIN
        return [Finding("other programs", str(error), "see the rights")]


def _of_feature(outcome: Outcome) -> Finding:
    subject = f"kernel: {outcome.feature.name}"
    text = f"{outcome.level}: {outcome.message}"
    if outcome.level is not Level.REFUSED:
        return Finding(subject, text)
    if outcome.feature in (features.LOAD, features.CGROUP_LINKS):
        advice = "see the rights and the other programs here, or take a newer kernel"
    else:
        advice = "take a newer kernel; nothing of the redirect is attached without it"
    return Finding(subject, text, advice)


def look(cgroup: Path | None) -> Surroundings:
    """This machine, and this process's rights."""
    table = bpffs.mounts()
    root = cgroup or cgroup2_root(table)
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    kinds = _read(Path("/proc/filesystems")) or ""
    mode = re.search(r"\[(\w+)]", _read(Path("/sys/kernel/security/lockdown")) or "")
    disabled = _read(Path("/proc/sys/kernel/unprivileged_bpf_disabled"))
    return Surroundings(
        mounts=table,
        filesystems=frozenset(line.split("\t")[-1] for line in kinds.splitlines()),
        capabilities=int(effective[1], 16) if effective else 0,
        unprivileged_bpf_disabled=disabled.strip() if disabled else None,
        lockdown=mode[1] if mode else None,
        has_btf=Path("/sys/kernel/btf/vmlinux").exists(),
        # The root has no type: cgroup.type is in every other cgroup.
        is_real_root=None
        if root is None or cgroup is not None
        else not (root / "cgroup.type").exists(),
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _tools() -> Finding:
    try:
        asm_headers()
        libbpf.library()
    except PodlockError as error:
        return Finding(
            "tools", str(error), "apt-get install python3-bpfcc linux-libc-dev"
        )
    return Finding("tools", "libbpf and the UAPI headers are installed")


# Who else is attached.


def attached(cgroup: Path) -> Iterator[Neighbours]:
    """The programs on our hooks, of this cgroup and of each above it."""
    root = covering(cgroup, bpffs.mounts())
    above = [cgroup, *cgroup.parents]
    for each in above[: above.index(root.point) + 1] if root else [cgroup]:
        fd = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for hook in CGROUP_HOOKS:
                yield from _programs_at(each, fd, hook.attach)
        finally:
            os.close(fd)


def _programs_at(cgroup: Path, fd: int, hook: AttachType) -> Iterator[Neighbours]:
    flags, count = ct.c_uint32(), ct.c_uint32(_MAX_PROGRAMS)
    ids = (ct.c_uint32 * _MAX_PROGRAMS)()
    where = f"programs at {hook.name} of {cgroup}"
    query = (fd, hook, 0, ct.byref(flags), ids, ct.byref(count))
    libbpf.call(where, "bpf_prog_query", *query)
    if count.value:
        programs = [(id, _name(id)) for id in ids[: count.value]]
        yield Neighbours(cgroup, hook, flags.value, programs)


class _ProgramInfo(ct.Structure):
    """The head of struct bpf_prog_info, uapi/linux/bpf.h."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("code_bytes", ct.c_uint32 * 2),
        ("code", ct.c_uint64 * 2),
        ("load_time", ct.c_uint64),
        ("uid", ct.c_uint32),
        ("map_count", ct.c_uint32),
        ("maps", ct.c_uint64),
        ("name", ct.c_char * 16),
    )


def _info(fd: int) -> _ProgramInfo:
    info, size = _ProgramInfo(), ct.c_uint32(ct.sizeof(_ProgramInfo))
    get = ("bpf_obj_get_info_by_fd", fd, ct.byref(info), ct.byref(size))
    libbpf.call("a program", *get)
    return info


def _name(id: int) -> str:
    """ "" for one without a name, or that went meanwhile."""
    fd = libbpf.library().bpf_prog_get_fd_by_id(id)
    if fd < 0:
        code = ct.get_errno()
        if code == errno.ENOENT:
            return ""
        raise libbpf.failed(f"program {id}", code)
    try:
        return bytes(_info(fd).name).decode(errors="replace")
    finally:
        os.close(fd)


def _own_programs(layout: PinLayout) -> Iterator[int]:
    for part in (layout, layout.next, layout.old):
        for hook in HOOKS:
            path = part.programs / hook.name
            if path.exists():
                with pins.opened(path) as fd:
                    yield int(_info(fd).id)
