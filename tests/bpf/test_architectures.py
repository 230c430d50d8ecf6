"""
The programs are not for x86-64 alone: compiled for arm64, and taken by the verifier.

eBPF is the same everywhere; what may differ is what headers of an architecture bring.
BCC compiles for the one that the variable ARCH names, with these headers.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.redirect.layout import HOOKS
from tests.bpf.world import SOURCE

ROOT = Path(__file__).resolve().parents[2]
# Debian's linux-libc-dev-arm64-cross.
ARM64_INCLUDE = Path("/usr/aarch64-linux-gnu/include")

LOAD_ALL = """
import sys
from pathlib import Path
from agent.redirect.headers import make_headers
from agent.redirect.layout import HOOKS, Ports
from agent.redirect.loader import compiled
source, headers, system = map(Path, sys.argv[1:])
# A BCC made for x86-64 asks for this protection on every architecture (Debian 13's).
defines = [*Ports().defines(), "-fcf-protection=none"]
bpf = compiled(source, make_headers(headers, system), defines)
for hook in HOOKS:
    bpf.load_func(hook.name.encode(), int(hook.program), attach_type=int(hook.attach))
    print(hook.name)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The sources, with a line that only a compiler for arm64 passes."""
    copied = Path(shutil.copytree(SOURCE, tmp_path / "source"))
    main = copied / "redirect.c"
    check = "#ifndef __aarch64__\n#error not for arm64\n#endif\n"
    main.write_text(check + main.read_text())
    return copied


def load_all(source: Path, headers: Path, system: Path, arch: str) -> tuple[int, str]:
    command = [f"ARCH={arch}", sys.executable, "-c", LOAD_ALL]
    command += map(str, (source, headers, system))
    done = subprocess.run(
        ["env", *command], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr


def test_arm64(source: Path, tmp_path: Path) -> None:
    """Every program compiles with arm64's headers, and the verifier takes it."""
    code, told = load_all(source, tmp_path / "headers", ARM64_INCLUDE, "arm64")
    assert code == 0, told
    assert told.split() == [hook.name for hook in HOOKS]


@pytest.mark.skipif(platform.machine() == "aarch64", reason="it would be for arm64")
def test_the_check_can_fail(source: Path, tmp_path: Path) -> None:
    """Compiled for this machine the marked sources are refused."""
    code, told = load_all(source, tmp_path / "headers", Path("/usr/include"), "x86")
    assert code != 0
    assert "not for arm64" in told
