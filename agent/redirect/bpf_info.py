"""
What the kernel says about an open BPF object: ids, a program's maps, a link's target.

Source: struct bpf_map_info, bpf_prog_info and bpf_link_info of linux/bpf.h, by
BPF_OBJ_GET_INFO_BY_FD. Ids are never used twice on one boot.
"""

from __future__ import annotations

import ctypes as ct
from dataclasses import dataclass
from typing import Final

from agent.redirect import libbpf

LINK_NETNS: Final = 5  # BPF_LINK_TYPE_NETNS
MAX_PROGRAM_MAPS: Final = 64  # MAX_USED_MAPS


class _Head(ct.Structure):
    """The head that a map's and a program's information have in common."""

    _fields_ = (("type", ct.c_uint32), ("id", ct.c_uint32))


class _ProgramInfo(ct.Structure):
    """The head of struct bpf_prog_info, Linux 4.15."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("jited_bytes", ct.c_uint32),
        ("translated_bytes", ct.c_uint32),
        ("jited", ct.c_uint64),
        ("translated", ct.c_uint64),
        ("load_time", ct.c_uint64),
        ("created_by_uid", ct.c_uint32),
        ("map_count", ct.c_uint32),
        ("map_ids", ct.c_uint64),
    )


class _Target(ct.Union):
    """What a link is attached to, by the link's type."""

    _fields_ = (("cgroup", ct.c_uint64), ("netns", ct.c_uint32))


class _LinkInfo(ct.Structure):
    """The head of struct bpf_link_info, Linux 5.8."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("program_id", ct.c_uint32),
        ("pad", ct.c_uint32),
        ("target", _Target),
        ("rest", ct.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """
    `target` is the id of the cgroup or the inode number of the network namespace that
    the link is attached to, 0 once it is detached.
    """

    id: int
    program: int
    target: int


def object_id(fd: int) -> int:
    """The id of a map or program. Raises: KernelError."""
    info = _Head()
    _fill(fd, info)
    return int(info.id)


def program_maps(fd: int) -> frozenset[int]:
    """The ids of the maps that a program uses. Raises: KernelError."""
    ids = (ct.c_uint32 * MAX_PROGRAM_MAPS)()
    info = _ProgramInfo(map_count=MAX_PROGRAM_MAPS, map_ids=ct.addressof(ids))
    _fill(fd, info)
    return frozenset(ids[: info.map_count])


def link(fd: int) -> LinkInfo:
    """Raises: KernelError."""
    info = _LinkInfo()
    _fill(fd, info)
    target = info.target.netns if info.type == LINK_NETNS else info.target.cgroup
    return LinkInfo(int(info.id), int(info.program_id), int(target))


def _fill(fd: int, info: ct.Structure) -> None:
    size = ct.c_uint32(ct.sizeof(info))
    libbpf.call(
        f"descriptor {fd}: information",
        "bpf_obj_get_info_by_fd",
        fd,
        ct.byref(info),
        ct.byref(size),
    )
