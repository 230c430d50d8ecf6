"""
`python -m tests.soak`: load of every kind over every path, for some minutes.

Exits 0 when it held, 1 on any difference, leak or growing memory, 2 when it could not
be built.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from tests.lab import system
from tests.soak import faults, show, world
from tests.soak.soak import Effort, Progress, Soak


def main() -> int:
    """Parse the arguments and do what they say."""
    options = _options()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if os.geteuid() != 0:
        console.print("The soak makes namespaces and cgroups: run it as root.")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _alone():
            return _soak(options, console)
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything has been removed.")
        return 130
    except (system.LabError, OSError) as error:
        console.print(f"The soak could not be built: {error}", markup=False)
        return 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=_minutes, default=15.0, help="of load; 15 without it")
    add("--seed", type=int, help="repeat the plans of another run")
    add("--lanes", type=int, default=8, help="connections at once on each path")
    add("--no-faults", action="store_true", help="load and changes of policy only")
    add(
        "--fault",
        action="append",
        choices=faults.NAMES,
        help="only this one; may be repeated",
    )
    add("--json", type=Path, metavar="FILE", help="write everything found")
    return parser.parse_args()


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= 10_000:
        raise argparse.ArgumentTypeError("expected more than 0, at most 10000")
    return minutes


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One soak at a time; an abstract socket is a lock that leaves no file behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        try:
            lock.bind(f"\0{world.RUN}")
        except OSError as error:
            raise system.LabError("another soak is running") from error
        yield


def _soak(options: argparse.Namespace, console: Console) -> int:
    seed = secrets.randbits(32) if options.seed is None else options.seed
    chosen: tuple[faults.Fault, ...] = () if options.no_faults else faults.FAULTS
    if options.fault:
        chosen = tuple(each for each in faults.FAULTS if each.name in options.fault)
    effort = Effort(options.minutes * 60, seed, lanes=options.lanes, faults=chosen)
    console.print(f"seed {seed}, {options.minutes:g} minutes")

    with contextlib.ExitStack() as stack:
        status = stack.enter_context(console.status("building two nodes and pods"))

        def watch(progress: Progress) -> None:
            status.update(show.line(progress))
            if not console.is_terminal:
                console.print(show.line(progress), soft_wrap=True)
            for each in progress.found:
                console.print(f"difference: {each}", soft_wrap=True, markup=False)

        ready = stack.enter_context(world.built())
        outcome = Soak(ready, effort, watch).run()
        pids = system.processes_in(ready.lab.names.cgroup)
    system.wait_gone(pids)
    show.show(outcome, console)
    if options.json:
        options.json.write_text(json.dumps(show.document(outcome), indent=2) + "\n")
        console.print(f"wrote {options.json}", markup=False)
    return 0 if outcome.held else 1


if __name__ == "__main__":
    sys.exit(main())
