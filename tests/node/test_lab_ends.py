"""A run that a signal ends leaves nothing: no process, namespace, cgroup or pin."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import names, system
from tests.lab.topology import host_names, random_run
from tests.patience import patient

pytestmark = pytest.mark.slow

TOP = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from tests.demo import stage
with stage.built(sys.argv[1]):
    print("up", flush=True)
    time.sleep(3600)
"""


def left(run: str) -> list[str]:
    """What there still is of a run, by its name alone."""
    named = host_names(run)
    places = [named.cgroup, named.pins, named.run_directory]
    spaces = names.NETNS_DIRECTORY.glob(f"{named.prefix}*")
    return [str(each) for each in (*places, *spaces) if each.exists()]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL]
)
def test_nothing_is_left(number: signal.Signals) -> None:
    """With two agents, their programs and applications running."""
    run = random_run()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, run],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=TOP,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
        assert left(run)
        process.send_signal(number)
        process.wait(patient(60))
    system.wait_until(lambda: not left(run), f"nothing of {run}", patient(60))
