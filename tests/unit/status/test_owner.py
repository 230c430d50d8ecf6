"""Which process is behind a socket that does not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.status import client
from agent.status.owner import owner_of

LISTENER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(5)
print("ready", flush=True)
sys.stdin.read()
"""
Mute = tuple[Path, subprocess.Popen[str]]


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[Mute]:
    """A process that listens and never answers."""
    path = tmp_path / "agent.sock"
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield path, process
        process.kill()


def test_a_stopped_process_is_named(mute: Mute) -> None:
    path, process = mute
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    with pytest.raises(client.NoAnswer) as caught:
        client.fetch(path, "status", timeout_seconds=0.1)
    assert f"process {process.pid} is stopped by a signal (T)" in str(caught.value)
    assert f"kill -CONT {process.pid}" in str(caught.value)


def test_one_that_waits(mute: Mute) -> None:
    path, process = mute
    said = owner_of(path) or ""
    assert said.startswith(f"process {process.pid} is ")


def test_nobody(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "none.sock") is None
