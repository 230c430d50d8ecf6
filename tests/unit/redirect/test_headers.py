"""The header folder, made from a small copy of what linux-libc-dev installs."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

import pytest

from agent.errors import KernelError
from agent.redirect.headers import asm_headers, make_headers


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """An include folder with the architecture's own part nowhere yet."""
    system = tmp_path / "usr-include"
    for name in ("linux/bpf.h", "linux/in.h", "asm-generic/types.h"):
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(name)
    return system


def add_asm(folder: Path) -> Path:
    (folder / "asm").mkdir(parents=True)
    (folder / "asm" / "types.h").write_text("types")
    return folder / "asm"


def test_without_uapi_headers_it_says_what_to_install(system: Path) -> None:
    """The person who reads it knows which package is missing."""
    with pytest.raises(KernelError, match="linux-libc-dev"):
        asm_headers(system)


@pytest.mark.parametrize(
    "folder",
    [
        sysconfig.get_config_var("MULTIARCH") or "",
        f"{platform.machine()}-linux-gnu",
        "",
    ],
)
def test_finds_the_architecture(system: Path, folder: str) -> None:
    """Debian's multiarch folder, or beside the others elsewhere."""
    asm = add_asm(system / folder)

    assert asm_headers(system) == asm


def test_makes_what_bcc_asks_for(system: Path, tmp_path: Path) -> None:
    """UAPI headers under both names, an empty bpf.h, and BCC's three extras."""
    add_asm(system)

    include = make_headers(tmp_path / "made", system) / "include"

    for tree in ("linux", "uapi/linux"):
        assert (include / tree / "in.h").read_text() == "linux/in.h"
        assert (include / tree / "bpf.h").read_text() == ""
    assert (include / "asm" / "types.h").read_text() == "types"
    assert (include / "asm" / "page.h").read_text() == ""
    assert (include / "asm-generic" / "types.h").exists()
    assert (include / "linux" / "log2.h").exists()
    assert "typedef __u64 u64;" in (include / "linux" / "kconfig.h").read_text()


def test_a_folder_that_is_not_empty_is_refused(system: Path, tmp_path: Path) -> None:
    """Two sets of headers are not mixed."""
    add_asm(system)
    make_headers(tmp_path / "made", system)

    with pytest.raises(KernelError, match="header folder"):
        make_headers(tmp_path / "made", system)
