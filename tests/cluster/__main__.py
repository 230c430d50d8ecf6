"""
`python -m tests.cluster up|test|down`: Kubernetes on this machine, and Podlock on it.

Exits 0 when every step held, 1 when one did not, 2 when the cluster could not be built.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from rich.console import Console

from agent.redirect import program
from tests.cluster import images, machine, script
from tests.demo.report import Report
from tests.lab.system import LabError


def main() -> int:
    """Parse the arguments and do what they say."""
    options = _options()
    console = Console(highlight=False)
    if os.geteuid() != 0:
        console.print("A cluster needs cgroups and network namespaces: run it as root.")
        return 2
    try:
        match options.command:
            case "up":
                up()
                console.print(f"export KUBECONFIG={machine.KUBECONFIG}")
                console.print(f"export PATH={machine.CACHE / 'bin'}:$PATH")
                return 0
            case "down":
                down()
                return 0
            case _:
                return test(console, options)
    except (LabError, OSError) as error:
        console.print(f"[bold red]The cluster could not be built:[/] {error}")
        return 2
    except KeyboardInterrupt:
        console.print("\nInterrupted; `./run cluster down` removes what is there.")
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start two nodes with our image on them")
    commands.add_parser("down", help="remove every trace")
    test = commands.add_parser("test", help="up unless it is, the steps, and down")
    test.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    test.add_argument("--keep", action="store_true", help="leave the cluster up")
    names = ", ".join(name for name, _, _ in script.STEPS)
    test.add_argument("--only", nargs="+", default=(), metavar="STEP", help=names)
    return parser.parse_args()


def up() -> None:
    """What is missing of it: assets, images, cluster. Raises: LabError."""
    machine.script("assets", "nodes", seconds=3600)
    archives = {image: images.build(image) for image in images.ALL}
    if not machine.is_up():
        machine.script("up")
    for image, archive in archives.items():
        if not machine.has_image(image.name, image.stamp):
            machine.script("load-image", image.name, str(archive))
            machine.note_image(image.name, image.stamp)


def down() -> None:
    """Nodes, pods, links, rules, files, and what agents left in the kernel."""
    machine.script("down")
    for pins in machine.pins():
        program.unload(pins)


def test(console: Console, options: argparse.Namespace) -> int:
    """The steps; the cluster goes with them unless it was there or is to stay."""
    began = time.monotonic()
    keep = options.keep or machine.is_up()
    with console.status("building the cluster"):
        up()
    console.print(f"Two nodes are ready after {time.monotonic() - began:.0f} s\n")
    report = Report(console)
    try:
        script.perform(report, console, options.only)
    finally:
        if not keep:
            down()
    seconds = time.monotonic() - began
    report.conclude(seconds)
    if options.json:
        report.write(options.json, seconds)
    return 0 if report.held else 1


if __name__ == "__main__":
    sys.exit(main())
