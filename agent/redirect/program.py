"""
The programs from the agent's side: loaded when they are not, unloaded when asked.

Without bcc: pinned programs that were made from the same sources and settings are
found by their fingerprint and used as they are; else the loader runs as a process.
Both calls block; make them before the event loop or in a thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from agent.errors import KernelError
from agent.redirect import bpffs, features, pinset, tenure, tried
from agent.redirect.features import Outcome
from agent.redirect.headers import make_headers
from agent.redirect.layout import PinLayout, Ports

DEFAULT_PINS: Final = Path("/sys/fs/bpf/podlock")
LOADER: Final = "agent.redirect.loader"
# Seconds on a quiet machine (LLVM compiles); ten times that on a loaded one.
LOADER_TIMEOUT: Final = timedelta(minutes=2)
DEFAULT_PORTS: Final = Ports()

_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """
    What was done. `mounted`: bpffs was not there and is now. `features`: this kernel's.
    """

    outcome: Literal["reused", "loaded", "replaced"]
    digest: str  # hex
    cgroup: str
    mounted: bool = False
    features: Sequence[Outcome] = field(default=(), compare=False)

    def facts(self) -> dict[str, Any]:
        """For the log: of features only those that this kernel lacks."""
        lacking = [str(each) for each in self.features if each.level != "native"]
        return asdict(replace(self, features=())) | {"features": lacking}


def ensure_loaded(
    *,
    source: Path,
    pins: Path = DEFAULT_PINS,
    cgroup: Path | None = None,
    ports: Ports = DEFAULT_PORTS,
    timeout: timedelta = LOADER_TIMEOUT,
    examine: Callable[[Path], Sequence[Outcome]] = tried.examine,
) -> LoadReport:
    """
    See to it that the programs of `source` are in force.

    `cgroup` None: the root of cgroup v2, wherever it is mounted. Raises: KernelError
    with what this kernel lacks or the loader's last words, InputError for a path that
    cannot be; then what was in force still is.
    """
    layout = PinLayout(pins)
    attach_to = bpffs.find_cgroup(cgroup)
    source = source.resolve()
    outcomes = examine(attach_to)
    if lacks := features.refusal(outcomes):
        raise KernelError(
            f"this kernel cannot carry the redirect: {lacks};"
            " `podlock check --pre` tells more"
        )
    switches = features.switches(outcomes)
    digest = pinset.fingerprint_of(source, attach_to, ports, switches)
    settled = bpffs.on_bpffs(pins) and pinset.is_settled(layout)
    if settled and pinset.is_current(layout, digest):
        return LoadReport("reused", digest.hex(), str(attach_to), features=outcomes)
    with tempfile.TemporaryDirectory(prefix="podlock-headers-") as headers:
        options = {
            "source": source,
            "pins": pins,
            "cgroup": attach_to,
            "headers": make_headers(Path(headers)),
        } | {f"{name}-port": port for name, port in asdict(ports).items()}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        arguments += [f"--switch={name}" for name in switches]
        return replace(_run_loader(arguments, timeout), features=outcomes)


def _run_loader(arguments: list[str], timeout: timedelta) -> LoadReport:
    try:
        done = subprocess.run(
            [sys.executable, "-m", LOADER, *arguments],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout.total_seconds(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"eBPF loader: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise KernelError(f"eBPF loader: {said[-1]}")
    return _report(done.stdout)


def _report(text: str) -> LoadReport:
    try:
        told: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return LoadReport(**told)
    except (ValueError, TypeError, IndexError) as error:
        raise KernelError(f"eBPF loader: no report in {text[-200:]!r}") from error


def unload(pins: Path = DEFAULT_PINS, *, forget_lock: bool = True) -> None:
    """
    Remove links, programs, maps and folders: nothing is redirected afterwards.

    Enrolled pods then connect in plaintext, so this is for taking Podlock off a
    node, not for stopping an agent. `forget_lock` False where an agent runs, whose
    lock must stay where the next one looks for it. Raises: KernelError.
    """
    layout = PinLayout(pins)
    if not pins.parent.is_dir():
        return
    try:
        with bpffs.exclusive(pins.parent):
            for part in (layout, layout.next, layout.old):
                pinset.remove(part)
            if forget_lock:
                tenure.forget(pins)
    except OSError as error:
        raise KernelError(f"unload {pins}: {error}") from error
