"""A process without file descriptors is named before its connections hang unseen."""

from __future__ import annotations

import resource
import subprocess

from agent.app.descriptors import shortages


def test_out_of_descriptors() -> None:
    """By how many are open of how many; one with room is not named."""
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        try:
            processes = {"worker 0": process.pid}
            assert not list(shortages(processes))
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (8, 8))
            (fault,) = shortages(processes)
        finally:
            process.kill()
    assert fault.object == "worker 0"
    assert "of 8 file descriptors are open" in fault.message


def test_a_process_that_has_ended() -> None:
    """Is no shortage."""
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
        assert not list(shortages({"worker 0": process.pid}))
