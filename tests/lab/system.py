"""
The machine under a lab: commands, network namespaces, cgroups, waiting.

Nothing here knows of Podlock. Processes are started by two standard tools and no
wrapper of ours: a shell line that joins the cgroup, then `nsenter --net`, which keeps
the mount namespace (`ip netns exec` would hide bpffs and cgroup2 behind a new /sys).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from tests.patience import patient

T = TypeVar("T")
Output = int | IO[Any] | None

CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_JOIN: Final = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'


class LabError(Exception):
    """The lab itself could not do what it was asked; the message says what."""


def run(*argv: str, stdin: str | None = None, directory: Path | None = None) -> str:
    """Run a command on the host and return what it printed. Raises: LabError."""
    done = subprocess.run(
        argv, input=stdin, text=True, capture_output=True, check=False, cwd=directory
    )
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


Finished = subprocess.CompletedProcess[str]


def finished(command: Sequence[str], who: str, seconds: float) -> Finished:
    """
    Run a command to its end; a failing exit code is an answer, not an error.

    Raises: LabError when it takes longer than `seconds` of a usual machine.
    """
    seconds = patient(seconds)
    try:
        return subprocess.run(
            command, text=True, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        what = f"{who}: {' '.join(command)}"
        raise LabError(f"{what}: not within {seconds:g} s") from error


def ip_batch(namespace: str | None, lines: Iterable[str]) -> None:
    """Run `ip` commands in one go, inside a named namespace. Raises: LabError."""
    where = ["-n", namespace] if namespace else []
    run("ip", *where, "-batch", "-", stdin="\n".join(lines) + "\n")


def inside(namespace: Path, cgroup: Path, argv: Sequence[str]) -> list[str]:
    """The command line that starts `argv` in a cgroup and a network namespace."""
    enter = ["nsenter", f"--net={namespace}", "--", *argv]
    return ["/bin/sh", "-c", _JOIN, "sh", str(cgroup), *enter]


def in_namespace(namespace: Path, work: Callable[[], T]) -> T:
    """
    Call `work` in a network namespace and return its result.

    A thread of its own does it, since setns(2) moves a thread; sockets that `work`
    opens stay in that namespace wherever they are used.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            enter_namespace(namespace)
            result.append(work())
        except BaseException as error:  # noqa: BLE001 (handed to the caller below)
            failure.append(error)

    thread = threading.Thread(target=call, name=f"in {namespace.name}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def enter_namespace(namespace: Path) -> None:
    """Move the calling thread into a network namespace. Raises: LabError."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(descriptor, CLONE_NEWNET) != 0:
            error = os.strerror(ctypes.get_errno())
            raise LabError(f"setns {namespace}: {error}")
    finally:
        os.close(descriptor)


def set_sysctls(namespace: Path, settings: dict[str, str]) -> None:
    """Write /proc/sys/net values of one namespace: `{"ipv4/ip_forward": "1"}`."""

    def write() -> None:
        for name, value in settings.items():
            Path("/proc/sys/net", name).write_text(value)

    in_namespace(namespace, write)


def wait_until(
    holds: Callable[[], T | None], what: str, seconds: float, interval: float = 0.02
) -> T:
    """
    Ask again and again until `holds()` is true; return it.

    Raises: LabError after `seconds` of a usual machine.
    """
    seconds = patient(seconds)
    deadline = time.monotonic() + seconds
    while True:
        if answer := holds():
            return answer
        if time.monotonic() >= deadline:
            raise LabError(f"{what}: not within {seconds:g} s")
        time.sleep(interval)


def processes_in(cgroup: Path) -> list[int]:
    """The process ids in a cgroup and everything below it."""
    pids: list[int] = []
    for procs in sorted(cgroup.rglob("cgroup.procs")):
        with contextlib.suppress(OSError):
            pids += map(int, procs.read_text().split())
    return pids


def kill_cgroup(cgroup: Path, seconds: float = 5.0) -> None:
    """SIGKILL every process in a cgroup and below, and wait for the last one."""
    kill = cgroup / "cgroup.kill"  # since Linux 5.14
    if kill.exists():
        kill.write_text("1")
        events = cgroup / "cgroup.events"
        wait_until(
            lambda: "populated 0" in events.read_text(), f"{cgroup} empties", seconds
        )


def wait_gone(pids: Iterable[int], seconds: float = 5.0) -> None:
    """
    Wait until killed processes have left the process table, as far as they do.

    Orphans stay as zombies until init reaps them, and some inits take their time.
    """
    with contextlib.suppress(LabError):
        left = [Path(f"/proc/{pid}") for pid in pids]
        wait_until(lambda: not any(p.exists() for p in left), "processes end", seconds)


def remove_cgroup(cgroup: Path) -> None:
    """Kill what runs in a cgroup, then remove it and everything below it."""
    if not cgroup.is_dir():
        return
    kill_cgroup(cgroup)
    below = [path for path in cgroup.rglob("*") if path.is_dir()]
    for directory in sorted(below, reverse=True):
        directory.rmdir()
    cgroup.rmdir()


class Children:
    """The processes that a lab started, so that each is waited for in the end."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self,
        argv: Sequence[str],
        stdout: Output = None,
        stderr: Output = None,
        directory: Path | None = None,
    ) -> subprocess.Popen[str]:
        """
        Start a program; `reap` waits for it.

        In a session of its own: the Ctrl-C that ends a demo is not for the agents.
        """
        process = subprocess.Popen(
            argv,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=directory,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def reap(self, seconds: float = 5.0) -> None:
        """Wait for all of them (they have been killed) and close their pipes."""
        for process in self._processes:
            process.wait(patient(seconds))
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        self._processes.clear()


def proportional_memory(pids: Iterable[int]) -> int:
    """The PSS of processes together, in bytes; those gone meanwhile count nothing."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total
