"""From samples and CPU time to microseconds, and to files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import flame, options, profiling
from tests.bench.profiling import Cpu, Profile

STACKS: flame.Stacks = {
    ("main", "send (libc.so.6)"): 50,
    ("main", "SSL_write_ex (libssl.so.3)"): 20,
    ("main", "relay"): 30,
}
PROFILE = Profile(
    "cross-node",
    "round trip, 64",
    "n1-worker0",
    Cpu(3.0, 1.0),
    STACKS,
    units=10_000,
    unit="request",
)


def test_samples_divide_the_cpu_time() -> None:
    """The parts are all of it."""
    split = PROFILE.split()
    assert split == {"system calls": 2.0, "OpenSSL": 0.8, "interpreter": 1.2}


def test_without_samples_nothing_is_divided() -> None:
    """No part is claimed to be nothing."""
    empty = Profile("s", "c", "w", Cpu(1, 1), {}, 1, "run")
    assert empty.split() == {}


def test_the_table_is_in_microseconds_of_a_unit() -> None:
    """4 s for 10,000 requests are 400 us."""
    out = io.StringIO()
    console = Console(width=200, file=out)
    profiling.show([PROFILE], console)
    shown = out.getvalue()
    for figure in ("400", "200", "80.0", "120", "100"):
        assert figure in shown


def test_a_file_for_each_worker(tmp_path: Path) -> None:
    """Named by case, scope and worker; those of the last run are gone."""
    (tmp_path / "old.svg").write_text("")
    written = profiling.write([PROFILE], tmp_path)
    assert written == [tmp_path / "round-trip-64-cross-node-n1-worker0.svg"]
    assert list(tmp_path.iterdir()) == written


def test_cpu_time_of_a_process() -> None:
    """What the kernel says of this one."""
    used = profiling.cpu(1)
    assert used.total >= 0
    assert Cpu(3, 2).since(Cpu(1, 1)) == Cpu(2, 1)


def test_without_the_sampler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says what is missing, and where it comes from."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(profiling.ProfileFailed, match=r"\./run bench"):
        profiling.program()


def test_the_option() -> None:
    """Off unless asked for."""
    assert options.parse(["--profile"]).profile
    assert not options.parse([]).profile
