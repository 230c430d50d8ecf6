"""
`python -m tests.bench`: measure, and print what was found.

Exits 0 when everything was measured, whatever it says; 1 when a run failed; 2 when
the benchmark could not be built.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.status import Status

from tests.bench import (
    contestants,
    crowd,
    goals,
    harness,
    options,
    plot,
    profiling,
    report,
)
from tests.bench import stamp as stamps
from tests.bench import world as worlds
from tests.bench.contestants import Podlock
from tests.bench.options import Options
from tests.bench.peers import InvalidPeer
from tests.bench.profiling import Profile
from tests.bench.report import Results
from tests.bench.statistics import Metric, Run, Summary
from tests.bench.world import RUN, World
from tests.lab import system, topology

WIDTH_OF_NO_TERMINAL = 200


def main() -> int:
    """Parse the arguments and do what they say."""
    width = None if sys.stdout.isatty() else WIDTH_OF_NO_TERMINAL
    console = Console(highlight=False, width=width)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        chosen = options.parse(sys.argv[1:])
        if os.geteuid() != 0:
            console.print("The benchmark makes namespaces and cgroups: run it as root.")
            return 2
        with _alone():
            return _bench(chosen, console)
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything has been removed.")
        return 130
    except (options.InvalidOption, InvalidPeer) as error:
        console.print(f"bench: {error}", markup=False)
        return 2
    except (system.LabError, OSError) as error:
        console.print(f"The benchmark could not be built: {error}", markup=False)
        return 2


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One benchmark at a time: two would measure each other."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        try:
            lock.bind(f"\0{RUN}")
        except OSError as error:
            raise system.LabError("another benchmark is running") from error
        yield


def _bench(chosen: Options, console: Console) -> int:
    began = time.monotonic()
    stamp = stamps.taken(chosen.entered_peers)
    with console.status("building two nodes, pods and contestants") as status:
        with worlds.built() as world:
            runs, profiles = _measured(world, chosen, status)
            pids = system.processes_in(topology.host_names(RUN).cgroup)
        system.wait_gone(pids)
    summary = Summary.of(runs, (peer.name for peer in chosen.entered_peers))
    results = Results(
        stamp=stamp,
        seconds=time.monotonic() - began,
        rounds=chosen.effort.rounds,
        contestants=chosen.contestants,
        asked=_asked(chosen, runs),
        runs=runs,
        summary=summary,
        verdicts=goals.judged(summary),
    )
    _tell(results, profiles, chosen, console)
    return 1 if results.failures else 0


def _measured(
    world: World, chosen: Options, status: Status
) -> tuple[list[Run], list[Profile]]:
    entries = contestants.entered(world, chosen.contestants, chosen.peers)
    for entry in entries:
        status.update(f"starting {entry.name}")
        entry.start()
    began = time.monotonic()

    def watch(done: int, total: int, run: Run) -> None:
        left = (time.monotonic() - began) / done * (total - done)
        where = f"{run.scope}, {run.case}, {run.contestant}"
        status.update(f"{done} of {total}, {left:.0f} s left: {where}")

    runs = harness.perform(
        world.load, chosen.effort, chosen.cases, chosen.scopes, entries, watch
    )
    profiles: list[Profile] = []
    for entry in entries:
        if isinstance(entry, Podlock) and chosen.profile:
            asked = (chosen.cases, chosen.scopes, chosen.effort)
            profiles = profiling.taken(entry, world.load, *asked, status.update)
    # Last, because a hundred pods more are another topology.
    for entry in entries:
        if isinstance(entry, Podlock):
            status.update("weighing the agent, with 100 pods")
            runs += crowd.measure(entry)
    return runs, profiles


def _asked(chosen: Options, runs: list[Run]) -> list[tuple[str, str, Metric]]:
    asked = [
        (str(scope), case.name, metric)
        for scope in chosen.scopes
        for case in chosen.cases
        for metric in case.metrics
    ]
    asked += [
        (run.scope, run.case, crowd.METRICS[run.case])
        for run in runs
        if run.case in crowd.METRICS
    ]
    return asked


def _tell(
    results: Results, profiles: list[Profile], chosen: Options, console: Console
) -> None:
    report.show(results, console)
    written = []
    if profiles:
        profiling.show(profiles, console)
        written += profiling.write(profiles)
    if chosen.json:
        text = json.dumps(report.document(results), indent=2, ensure_ascii=False)
        chosen.json.write_text(text + "\n")
        written.append(chosen.json)
    if chosen.plot:
        written += plot.write(results, chosen.plot)
    for path in written:
        console.print(f"wrote {path}", markup=False)
    minutes, seconds = divmod(round(results.seconds), 60)
    console.print(f"{minutes} min {seconds} s")


if __name__ == "__main__":
    sys.exit(main())
