"""
The file systems the kernel keeps BPF objects and cgroups in: found, and mounted.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.errors import InputError, KernelError
from agent.redirect.mounts import Mount, cgroup2_root, covering, parse_mounts

MOUNT_TABLE: Final = Path("/proc/self/mounts")
BPFFS: Final = Path("/sys/fs/bpf")


def mounts() -> tuple[Mount, ...]:
    """This process's mount table."""
    return parse_mounts(MOUNT_TABLE.read_text(errors="surrogateescape"))


def find_cgroup(configured: Path | None) -> Path:
    """
    The cgroup to attach to: the configured one, else the root of cgroup v2.

    Raises: InputError for a configured one outside cgroup v2, KernelError when
    there is no cgroup v2 at all.
    """
    table = mounts()
    if configured is not None:
        path = configured.resolve()
        mount = covering(path, table)
        if not path.is_dir() or mount is None or mount.kind != "cgroup2":
            raise InputError(f"cgroup {configured}: not a cgroup v2 directory")
        return path
    root = cgroup2_root(table)
    if root is None:
        raise KernelError("cgroup v2 is not mounted: mount -t cgroup2 none DIR")
    return root


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """One process at a time; a killed one lets go by itself."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def on_bpffs(path: Path) -> bool:
    """Whether what is made at `path` can be a pin."""
    mount = covering(path, mounts())
    return mount is not None and mount.kind == "bpf"


def ensure_mounted(pins: Path) -> bool:
    """
    See to it that `pins` lies in a bpffs; True if it was mounted just now.

    Only /sys/fs/bpf is mounted, where every tool looks. Raises: KernelError saying
    what to mount, for another place or without the right to.
    """
    if on_bpffs(pins):
        return False
    if not pins.is_relative_to(BPFFS) or not BPFFS.is_dir():
        raise KernelError(f"pins {pins}: not in a bpffs; mount -t bpf bpf DIR first")
    # Two at once would mount one bpffs over the other's pins.
    with exclusive(BPFFS):
        if on_bpffs(pins):
            return False
        _mount_bpffs()
    return True


def _mount_bpffs() -> None:
    libc = ct.CDLL(None, use_errno=True)
    target = os.fsencode(BPFFS)
    if libc.mount(b"bpf", target, b"bpf", ct.c_ulong(0), b"mode=0700"):
        reason = os.strerror(ct.get_errno())
        raise KernelError(
            f"mount bpffs at {BPFFS}: {reason}; mount -t bpf bpf {BPFFS} as root"
        )
