"""
`python -m tests.vm.look FILE PART...`: what this kernel does with Podlock, as JSON.

Its features are tried in any case. Parts are the files of tests/bpf, `demo`, and
`lockdown`: only in a virtual machine, for that cannot be taken back before it boots.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.errors import PodlockError
from agent.redirect import features, tried
from agent.redirect.bpffs import BPFFS, find_cgroup
from agent.redirect.program import ensure_loaded, unload
from tests.bpf.world import SOURCE, unique

ROOT: Final = Path(__file__).resolve().parents[2]
TESTS: Final = tuple(
    str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("tests/bpf/test_*.py"))
)
DEMO: Final = "demo"
LOCKDOWN: Final = "lockdown"
PARTS: Final = (*TESTS, DEMO, LOCKDOWN)


@dataclass(frozen=True, slots=True)
class Seen:
    """
    `features`: name, level and what the kernel said. `tests`: of each file, how many
    passed and which did not. `steps`: whether each step of the demo held. `refusal`:
    what an agent says that cannot start here. `lockdown`: what became of a load under
    lockdown=confidentiality, "loaded" or the error; None where that was not run.
    """

    kernel: str
    system: str
    features: list[tuple[str, str, str]]
    refusal: str | None = None
    tests: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    steps: dict[str, bool] = field(default_factory=dict)
    lockdown: str | None = None


def look(parts: Sequence[str]) -> Seen:
    """Some minutes; half an hour where the machine is emulated."""
    files = [part for part in parts if part.startswith("tests/")]
    outcomes = tried.examine(find_cgroup(None))
    told = [(each.feature.name, str(each.level), each.reason) for each in outcomes]
    if features.refusal(outcomes):
        return Seen(platform.release(), _system(), told, refusal=load())
    return Seen(
        platform.release(),
        _system(),
        told,
        tests=_tests(files) if files else {},
        steps=_steps() if DEMO in parts else {},
        lockdown=_locked_down() if LOCKDOWN in parts else None,
    )


def joined(before: Seen, now: Seen) -> Seen:
    """What was seen of a kernel in several runs; a later one counts."""
    if (before.kernel, before.system) != (now.kernel, now.system):
        return now
    return replace(
        now,
        tests=before.tests | now.tests,
        steps=now.steps or before.steps,
        lockdown=now.lockdown or before.lockdown,
    )


def load() -> str:
    """Load the redirect for a moment: "loaded", or what an agent would say."""
    pins = BPFFS / unique("look")
    try:
        ensure_loaded(source=SOURCE, pins=pins)
    except PodlockError as error:
        return str(error)
    finally:
        unload(pins)
    return "loaded"


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")


def _tests(files: Sequence[str]) -> dict[str, tuple[int, list[str]]]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        _run("pytest", *files, "-q", f"--junitxml={report}")
        return count(report.read_text())


def count(report: str) -> dict[str, tuple[int, list[str]]]:
    """From pytest's JUnit XML: by file, how many passed and the names of the others."""
    found: dict[str, tuple[int, list[str]]] = {}
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314 (our own pytest's)
        # tests.bpf.test_inbound.TestFromOutside
        name = case.get("classname", "").split(".")[2].removeprefix("test_")
        passed, failed = found.get(name, (0, []))
        if any(case.find(kind) is not None for kind in ("failure", "error", "skipped")):
            found[name] = (passed, [*failed, case.get("name", "")])
        else:
            found[name] = (passed + 1, failed)
    return found


def _steps() -> dict[str, bool]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "demo.json"
        _run("tests.demo", f"--json={report}")
        if not report.exists():
            return {"two nodes can be built": False}
        document: dict[str, Any] = json.loads(report.read_text())
    return {step["name"]: step["held"] for step in document["steps"]}


def _run(module: str, *arguments: str) -> None:
    """Its exit code is no answer: what it wrote down is."""
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False)


def _locked_down() -> str:
    Path("/sys/kernel/security/lockdown").write_text("confidentiality")
    return load()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("parts", nargs="+", choices=PARTS, metavar="PART")
    options = parser.parse_args()
    seen = look(options.parts)
    options.file.write_text(json.dumps(asdict(seen), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
