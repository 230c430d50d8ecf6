"""
`python -m tests.vm`, as `./run kernels`: what works on which kernel.

Each of Debian's kernels is looked at in a virtual machine, this machine's own on the
machine itself. What was seen is kept in build/kernels/, a file a kernel, so that it can
be run in parts, one by one; the table has all of them.

Exits 0 when each kernel works whole or is refused with a reason, 1 when something
failed, 2 when a machine ended without an answer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.vm import table
from tests.vm.look import LOCKDOWN, PARTS, ROOT, Seen, joined

HERE: Final = "here"
KERNELS: Final = ("debian11", "debian12", "debian13", HERE)
RESULTS: Final = ROOT / "build" / "kernels"
# An emulated machine on two shared cores: twice what it took.
TIMEOUT_SECONDS: Final = 5400


def main() -> int:
    options = _options()
    chosen = KERNELS if options.kernel is None else options.kernel
    parts = PARTS if options.part is None else options.part
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = [name for name in chosen if not options.table and not _look(name, parts)]
    if failed:
        sys.stderr.write(f"kernels: no answer from {', '.join(failed)}\n")
        return 2
    seen = [_read(path) for name in KERNELS if (path := _result(name)).exists()]
    _print(seen)
    if options.write:
        page = ROOT / "ARCHITECTURE.md"
        page.write_text(table.put_into(page.read_text(), table.markdown(seen)))
    return 0 if table.is_well(seen) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run kernels", description=__doc__)
    parser.add_argument(
        "--kernel", action="append", choices=KERNELS, help="these alone; again for more"
    )
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="these of each, added to before"
    )
    parser.add_argument(
        "--table", action="store_true", help="run nothing, show what was seen"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the table into ARCHITECTURE.md"
    )
    return parser.parse_args()


def _result(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _look(name: str, parts: Sequence[str]) -> bool:
    """Whether the kernel was looked at to the end."""
    folder = RESULTS / name
    seen = folder / "seen.json"
    folder.mkdir(exist_ok=True)
    seen.unlink(missing_ok=True)
    if name == HERE:
        # Nobody wants this machine locked down until it boots again.
        parts = [part for part in parts if part != LOCKDOWN]
        command = [sys.executable, "-m", "tests.vm.look", str(seen), *parts]
    else:
        command = [str(ROOT / "run"), "vm", "--kernel", name, "--out", str(folder)]
        command += ["--timeout", str(TIMEOUT_SECONDS), "--", ".venv/bin/python", "-m"]
        command += ["tests.vm.look", "/out/seen.json", *parts]
    if subprocess.run(command, cwd=ROOT, check=False).returncode or not seen.exists():
        return False
    _add(_read(seen), _result(name))
    return True


def _add(seen: Seen, result: Path) -> None:
    if result.exists():
        seen = joined(_read(result), seen)
    result.write_text(json.dumps(asdict(seen), indent=2) + "\n")


def _read(path: Path) -> Seen:
    document = json.loads(path.read_text())
    return Seen(**document)


def _print(seen: list[Seen]) -> None:
    head, *body = table.rows(seen)
    shown = Table(*head)
    for row in body:
        shown.add_row(*row)
    console = Console(highlight=False)
    console.print(shown)
    for note in table.notes(seen):
        console.print(f"- {note}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
