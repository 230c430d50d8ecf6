"""One agent at a time has a node."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from multiprocessing import Pipe
from pathlib import Path

import pytest

from agent.app import remove_redirect
from agent.config import resolve
from agent.errors import InputError, KernelError
from agent.redirect.layout import PinLayout
from agent.redirect.program import ensure_loaded, unload
from agent.redirect.tenure import Tenure
from tests.bpf.world import SOURCE


def test_the_second_waits_until_the_first_lets_go(own_pins: Path) -> None:
    """And then keeps the first, or a third, out."""
    with closing(Tenure(own_pins)) as first, closing(Tenure(own_pins)) as second:
        assert first.try_take()
        assert first.try_take()
        assert not second.try_take()
        first.close()
        assert second.try_take()
        assert not first.try_take()


def test_who_is_killed_lets_go(own_pins: Path) -> None:
    """The kernel closes what a dead process had."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        theirs.send(Tenure(own_pins).try_take() and "mine")
        signal.pause()
        os._exit(0)
    with closing(Tenure(own_pins)) as next_one:
        assert ours.poll(5)
        assert not next_one.try_take()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert next_one.try_take()


def test_agents_of_other_pins_are_others(own_pins: Path) -> None:
    """Two nodes in one kernel, as the tests have them."""
    other = own_pins.with_name(f"{own_pins.name}-b")
    try:
        with closing(Tenure(own_pins)) as one, closing(Tenure(other)) as two:
            assert one.try_take()
            assert two.try_take()
    finally:
        unload(other)


def test_with_the_redirect_its_folder_goes(own_pins: Path) -> None:
    """Nothing of an agent is left on a node."""
    with closing(Tenure(own_pins)) as tenure:
        tenure.try_take()
    assert PinLayout(own_pins).tenure.is_dir()
    unload(own_pins)
    assert not PinLayout(own_pins).tenure.exists()


def test_no_place_for_it(tmp_path: Path) -> None:
    """Pins that are not in a bpffs: said before anything is touched."""
    with pytest.raises(KernelError, match="not in a bpffs"):
        Tenure(tmp_path / "pins").try_take()


def test_remove_refuses_while_an_agent_runs(own_pins: Path, cgroup: Path) -> None:
    """And says what to do; --force removes all but the lock."""
    config = resolve({"redirect": {"pins": str(own_pins)}})
    layout = PinLayout(own_pins)
    with closing(Tenure(own_pins)) as tenure:
        assert tenure.try_take()
        with pytest.raises(InputError, match="nothing is pinned there"):
            remove_redirect(config)
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)

        with pytest.raises(InputError, match=r"is running.*--force"):
            remove_redirect(config)
        assert layout.root.exists()

        remove_redirect(config, force=True)
        assert not layout.root.exists()
        assert tenure.is_intact()


def test_another_agent_on_the_same_cgroup(own_pins: Path, cgroup: Path) -> None:
    """Refused before it attaches anything, whatever its pins are; free afterwards."""
    other = own_pins.with_name(f"{own_pins.name}-b")
    try:
        with closing(Tenure(own_pins, cgroup)) as one:
            assert one.try_take()
            with (
                closing(Tenure(other, cgroup)) as two,
                pytest.raises(KernelError, match="another agent, with other pins"),
            ):
                two.try_take()
            PinLayout(own_pins).tenure.rmdir()
            one.retake()
            one.close()
            with closing(Tenure(other, cgroup)) as two:
                assert two.try_take()
    finally:
        unload(other)
