"""What the virtual machine's scripts do without starting one."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

QEMU = Path(__file__).resolve().parents[3] / "vagrant" / "qemu"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kernel", "debian9"], "expected debian11, debian12 or debian13"),
        (["--timeout", "soon"], "expected seconds"),
        (["--timeout", "0"], "expected seconds"),
        (["--memory", "3G"], "expected MiB"),
        (["--kernel"], "expected a value"),
        (["uname"], "-- before the command"),
    ],
)
def test_what_is_not_an_option(arguments: list[str], said: str) -> None:
    """Named, with what was expected, before anything is built."""
    command = [str(QEMU / "vm"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_what_goes_in() -> None:
    """The project's files, and nothing that this machine made of them."""
    packed = subprocess.run([QEMU / "pack"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        names = set(tar.getnames())
        owners = {(each.uid, each.gid) for each in tar}
    assert {"./run", "./vagrant/provision.sh", "./bpf/redirect.c"} <= names
    assert owners == {(0, 0)}
    made = {".git", ".venv", "build", "__pycache__", ".mypy_cache", ".vagrant"}
    assert not [name for name in names if made & set(Path(name).parts)]
