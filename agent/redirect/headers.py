"""
The header folder that BCC compiles against, without any kernel's headers.

BCC looks for a kernel build tree. Our programs use UAPI types only, so the C library's
own copy of the UAPI headers (Debian: linux-libc-dev) is enough, on any kernel and
architecture; what BCC's preamble asks for beyond it is nearly empty.
"""

from __future__ import annotations

import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.errors import KernelError

SYSTEM_INCLUDE: Final = Path("/usr/include")

# BCC brings a bpf.h of its own; two would clash.
_BCC_BRINGS: Final = "bpf.h"
# BCC includes it first of all: the kernel's short names, which UAPI does not have.
_KCONFIG: Final = """\
#define CONFIG_BPF_SYSCALL 1
#include <linux/types.h>
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef __s8 s8; typedef __s16 s16; typedef __s32 s32; typedef __s64 s64;
typedef _Bool bool; typedef unsigned long size_t; typedef unsigned long uintptr_t;
#define NULL ((void *)0)
"""


def asm_headers(system: Path = SYSTEM_INCLUDE) -> Path:
    """
    The architecture's `asm` folder: in the multiarch one on Debian, else beside.

    Raises: KernelError when the UAPI headers are not installed.
    """
    for folder in _architecture_folders(system):
        if (folder / "asm" / "types.h").is_file():
            return folder / "asm"
    raise KernelError(f"no asm/types.h under {system}: install linux-libc-dev")


def _architecture_folders(system: Path) -> Iterator[Path]:
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        yield system / str(multiarch)
    yield system / f"{platform.machine()}-linux-gnu"
    yield system


def make_headers(directory: Path, system: Path = SYSTEM_INCLUDE) -> Path:
    """
    Fill an empty or missing `directory` with links to the UAPI headers.

    Returns it, for BCC_KERNEL_SOURCE. Raises: KernelError.
    """
    asm = asm_headers(system)
    include = directory / "include"
    try:
        for tree in ("linux", "uapi/linux"):
            _link_all(system / "linux", include / tree, without=_BCC_BRINGS)
            (include / tree / _BCC_BRINGS).touch()
        # A folder of links and not a link to the folder: page.h is ours.
        _link_all(asm, include / "asm", without="page.h")
        (include / "asm" / "page.h").touch()
        (include / "asm-generic").symlink_to(system / "asm-generic")
        (include / "linux" / "log2.h").touch()
        (include / "linux" / "kconfig.h").write_text(_KCONFIG)
    except OSError as error:
        raise KernelError(f"header folder {directory}: {error}") from error
    return directory


def _link_all(source: Path, target: Path, without: str) -> None:
    target.mkdir(parents=True)
    for header in source.iterdir():
        if header.name != without:
            (target / header.name).symlink_to(header)
