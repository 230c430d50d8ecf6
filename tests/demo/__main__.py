"""
`python -m tests.demo`: two nodes on this machine, some steps, one answer.

The scenario `tour` shows all that the agent does; `rotation` replaces every authority
under traffic, and counts what that cost; `policy` closes a shop that was open to all,
step by step and under traffic.

Exits 0 when every step held, 1 when one did not, 2 when the demo could not be built.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.demo import script, stage
from tests.demo.migration import steps as migration
from tests.demo.migration import world as migrating
from tests.demo.report import Report
from tests.demo.rotation import steps as rotation
from tests.demo.rotation import world as rotating
from tests.lab import names, system, topology
from tests.lab.node import Agent
from tests.lab.pod import Pod
from tests.lab.topology import Lab


def main() -> int:
    """Parse the arguments and do what they say."""
    options = _options()
    console = Console(highlight=False)
    if os.geteuid() != 0:
        console.print("The demo makes network namespaces and cgroups: run it as root.")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _alone():
            if options.down:
                return _down(console)
            return _demo(console, options)
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything has been removed.")
        return 130
    except (system.LabError, OSError) as error:
        console.print(f"[bold red]The demo could not be built:[/] {error}")
        return 2


def _down(console: Console) -> int:
    """Remove whatever a demo left, to the last entry in the process table."""
    pids = system.processes_in(topology.host_names(names.DEMO_RUN).cgroup)
    topology.cleanup(names.DEMO_RUN)
    system.wait_gone(pids)
    console.print("The demo is gone.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument(
        "--scenario", choices=SCENARIOS, default="tour", help="what to show"
    )
    parser.add_argument("--keep", action="store_true", help="leave it running")
    parser.add_argument("--down", action="store_true", help="remove it and stop")
    return parser.parse_args()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One demo at a time; an abstract socket is a lock that leaves no file behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        try:
            lock.bind(f"\0{names.DEMO_RUN}")
        except OSError as error:
            raise system.LabError("another demo is running") from error
        yield


def _demo(console: Console, options: argparse.Namespace) -> int:
    play = SCENARIOS[options.scenario]
    report, began = Report(console), time.monotonic()
    with contextlib.ExitStack() as stack:
        lab = play(console, report, stack, keep=options.keep)
        pids = system.processes_in(lab.names.cgroup)
    if not options.keep:
        system.wait_gone(pids)
    seconds = time.monotonic() - began
    report.conclude(seconds)
    if options.json:
        report.write(options.json, seconds)
    return 0 if report.held else 1


def _tour(
    console: Console, report: Report, stack: contextlib.ExitStack, *, keep: bool
) -> Lab:
    began = time.monotonic()
    with console.status("building two nodes, their pods and applications"):
        built = stack.enter_context(stage.built())
    _is_ready(console, built.lab, time.monotonic() - began, keep=keep)
    script.perform(built, script.STEPS, report, console)
    if keep:
        _look_around(console, built.lab, built.agents, built.pods)
    return built.lab


def _rotation(
    console: Console, report: Report, stack: contextlib.ExitStack, *, keep: bool
) -> Lab:
    began = time.monotonic()
    with console.status("building two nodes and four pods"):
        built = stack.enter_context(rotating.built(names.DEMO_RUN, rotating.Effort()))
    _is_ready(console, built.lab, time.monotonic() - began, keep=keep)
    report.figures = built.figures
    script.perform(built, rotation.STEPS, report, console)
    if keep:
        _look_around(console, built.lab, built.agents, built.pods)
    return built.lab


def _policy(
    console: Console, report: Report, stack: contextlib.ExitStack, *, keep: bool
) -> Lab:
    began = time.monotonic()
    with console.status("building two nodes and their pods"):
        built = stack.enter_context(migrating.built(names.DEMO_RUN))
    _is_ready(console, built.lab, time.monotonic() - began, keep=keep)
    report.figures = built.figures
    script.perform(built, migration.STEPS, report, console)
    if keep:
        _look_around(console, built.lab, built.agents, built.pods)
    return built.lab


def _is_ready(console: Console, lab: Lab, seconds: float, *, keep: bool) -> None:
    lab.keep = keep
    console.print(f"Two nodes, {len(lab.pods)} pods, ready in {seconds:.1f} s\n")


def _look_around(
    console: Console, lab: Lab, agents: dict[str, Agent], pods: dict[str, Pod]
) -> None:
    """The commands that show what is running."""
    python = sys.executable
    lines = [
        *(
            f"{python} -m agent {command} --socket {agents[node].socket}"
            for node, command in (("n1", "status"), ("n2", "connections"))
        ),
        shlex.join(pods["web"].command("curl", f"http://{pods['api'].address.v4}/")),
        f"nsenter --net={lab.wire} tcpdump -n -i to-n1 port 15008",
        f"ls {lab.directory} {lab.names.pins}",
        "./run demo --down",
    ]
    console.print("\nLeft running. To look around:")
    for line in lines:
        console.print(f"    {line}", soft_wrap=True)


SCENARIOS: Final = {"tour": _tour, "rotation": _rotation, "policy": _policy}


if __name__ == "__main__":
    sys.exit(main())
