"""
Where the workers' time goes: `./run bench --profile`.

Each case runs once more with py-spy on every worker, after all figures were taken:
sampling stops a process for a moment, a hundred times a second. CPU time is the
kernel's own count, samples divide it. The kernel's own division, by timer ticks, is
told beside it. Without CONFIG_IRQ_TIME_ACCOUNTING that leaves out of the system's part
what a send does in a soft interrupt; samples add to a system call the time in which its
process had to wait for a core. The truth is between them.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.bench import flame
from tests.bench.cases import Case, Effort
from tests.bench.contestants import Podlock
from tests.bench.load import Load
from tests.bench.report import NOTHING, number
from tests.bench.statistics import UNITS
from tests.bench.world import Scope
from tests.lab import system

FOLDER: Final = Path("build/profile")
PER_SECOND: Final = 100
# Long enough for some hundred samples of a busy worker.
SECONDS: Final = 4.0
# py-spy reads the symbols of everything that is mapped before it begins.
ATTACH_SECONDS: Final = 30.0
# Below this share of the busiest one a worker had nothing to do with the case.
LEAST_SHARE: Final = 0.02

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process of an agent."""

    node: str
    index: int
    pid: int

    @property
    def name(self) -> str:
        """As files and tables call it."""
        return f"{self.node}-worker{self.index}"


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds of a process, as the kernel counts them."""

    user: float
    system: float

    def since(self, before: Cpu) -> Cpu:
        """What was used after `before`."""
        return Cpu(self.user - before.user, self.system - before.system)

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system


@dataclass(frozen=True, slots=True)
class Profile:
    """What one worker did in one case. `units` are requests, or MB where it is bulk."""

    scope: str
    case: str
    worker: str
    cpu: Cpu
    stacks: flame.Stacks
    units: float
    unit: str

    def split(self) -> dict[flame.Part, float]:
        """CPU seconds of each part, by samples; none where there are no samples."""
        counts = flame.parts(self.stacks)
        total = sum(counts.values())
        if not total:
            return {}
        return {name: self.cpu.total * n / total for name, n in counts.items()}


class ProfileFailed(system.LabError):
    """A profile could not be taken; the message says why."""


def program() -> str:
    """Where py-spy is: beside this Python, or on the PATH. Raises: ProfileFailed."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if not found:
        raise ProfileFailed("py-spy is not installed: ./run bench installs it")
    return found


def taken(
    podlock: Podlock,
    load: Load,
    cases: Sequence[Case],
    scopes: Sequence[Scope],
    effort: Effort,
    watch: Callable[[str], None],
) -> list[Profile]:
    """One profile of each worker that was busy, for every case. Raises: LabError."""
    effort = replace(effort, seconds=max(effort.seconds, SECONDS))
    profiles: list[Profile] = []
    for scope in scopes:
        for case in cases:
            watch(f"profile of {case.name}, {scope}")
            profiles += _case(podlock, load, case, scope, effort)
    return profiles


def _case(
    podlock: Podlock, load: Load, case: Case, scope: Scope, effort: Effort
) -> list[Profile]:
    route = podlock.route(scope)
    workers = _workers(podlock)
    folder = podlock.directory.path.parent / "profile"
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        for worker in workers:
            stack.enter_context(_sampled(worker.pid, folder / worker.name))
        before = {worker: cpu(worker.pid) for worker in workers}
        figures = case.measure(load, route, effort)
        used = {worker: cpu(worker.pid).since(before[worker]) for worker in workers}
    unit = next((name for name in UNITS if name in figures), None)
    units, named = (figures[unit], UNITS[unit]) if unit else (1.0, "run")
    most = max(each.total for each in used.values())
    return [
        Profile(
            scope,
            case.name,
            worker.name,
            used[worker],
            flame.parse((folder / worker.name).read_text()),
            units,
            named,
        )
        for worker in workers
        if used[worker].total > most * LEAST_SHARE
    ]


def _workers(podlock: Podlock) -> list[Worker]:
    return [
        Worker(node, worker["index"], worker["pid"])
        for node, agent in podlock.agents.items()
        for worker in agent.ask("status")["workers"]
    ]


@contextmanager
def _sampled(pid: int, path: Path) -> Iterator[None]:
    """Sample a process during the block; the stacks are in `path` after it."""
    argv = [program(), "record", "--native", "--format", "raw", "--pid", str(pid)]
    argv += ["--rate", str(PER_SECOND), "--output", str(path)]
    path.unlink(missing_ok=True)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            _wait_sampling(process)
            yield
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=ATTACH_SECONDS)
        except BaseException:
            process.kill()
            raise
    if not path.exists():
        raise ProfileFailed(f"py-spy of {pid}: {said.strip()[-300:]}")


def _wait_sampling(process: subprocess.Popen[str]) -> None:
    """Until it says that it samples. Raises: ProfileFailed with what it said."""
    assert process.stdout
    deadline = time.monotonic() + ATTACH_SECONDS
    said = ""
    while time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], 0.5)
        if not ready:
            continue
        line = process.stdout.readline()
        said += line
        if "Sampling process" in line:
            return
        if not line:
            break
    raise ProfileFailed(f"py-spy does not sample: {said.strip()[-300:]}")


def cpu(pid: int) -> Cpu:
    """utime and stime of a process, proc(5)."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text.rpartition(")")[2].split()  # the name may hold spaces
    return Cpu(int(fields[11]) / _TICKS, int(fields[12]) / _TICKS)


def write(profiles: Sequence[Profile], folder: Path = FOLDER) -> list[Path]:
    """One SVG for each profile; the last run's are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    written = []
    for profile in profiles:
        title = f"{profile.case}, {profile.scope}, {profile.worker}"
        path = folder / (re.sub(r"[^a-z0-9]+", "-", title.lower()) + ".svg")
        path.write_text(flame.draw(profile.stacks, title))
        written.append(path)
    return written


def show(profiles: Sequence[Profile], console: Console) -> None:
    """Microseconds of each worker for one request, and on what."""
    table = Table(
        title="CPU microseconds of each worker, while py-spy slows it",
        title_justify="left",
        title_style="bold",
    )
    for column in ("scope", "case", "worker"):
        table.add_column(column)
    for column in ("per", "all", *flame.PARTS, "system, by ticks", "samples"):
        table.add_column(column, justify="right")
    for profile in profiles:
        each = 1e6 / profile.units
        split = profile.split()
        parts = [split.get(name) for name in flame.PARTS]
        spent = [profile.cpu.total, *parts, profile.cpu.system]
        table.add_row(
            profile.scope,
            profile.case,
            profile.worker,
            profile.unit,
            *(NOTHING if s is None else number(s * each) for s in spent),
            str(sum(profile.stacks.values())),
        )
    console.print(table)
