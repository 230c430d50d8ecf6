"""A run that is killed leaves no namespace, cgroup or pin."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.redirect.bpffs import find_cgroup
from tests.bpf.world import BPFFS, NETNS_DIRECTORY
from tests.lab import system
from tests.patience import patient

TOP = Path(__file__).parents[2]
PROGRAM = """
import time
from agent.redirect.enrolment import Enrolment
from agent.redirect.kernel import RedirectMaps
from agent.redirect.program import ensure_loaded
from tests.bpf import world
from tests.bpf.conftest import reaping

with reaping(), world.scratch_cgroup() as cgroup, world.namespace() as outside:
    with world.namespace(1, outside) as pod:
        pins = world.BPFFS / world.unique("test")
        ensure_loaded(source=world.SOURCE, pins=pins, cgroup=cgroup)
        enrolment = Enrolment(pins, RedirectMaps.open(pins))
        enrolment.capture(pod.name, pod.path, pod.addresses)
        print(world.RUN, flush=True)
        time.sleep(3600)
"""


def left(run: str) -> list[Path]:
    places = (find_cgroup(None), BPFFS, NETNS_DIRECTORY)
    return [found for place in places for found in place.glob(f"podlock-*-{run}-*")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        cwd=TOP,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        run = process.stdout.readline().strip()
        assert len(left(run)) >= 4
        process.send_signal(number)
        process.wait(patient(60))
    system.wait_until(lambda: not left(run), f"nothing of {run}", patient(60))
