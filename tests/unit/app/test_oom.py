"""A worker is ended before control when memory runs out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.app.oom import ABOVE_CONTROL, go_before_control


@pytest.mark.parametrize(("inherited", "raised"), [(-997, -797), (0, 200), (900, 1000)])
def test_the_score_is_above_the_inherited_one(
    tmp_path: Path, inherited: int, raised: int
) -> None:
    score = tmp_path / "oom_score_adj"
    score.write_text(f"{inherited}\n")
    go_before_control(score)
    assert int(score.read_text()) == raised


def test_a_system_without_scores_is_no_failure(tmp_path: Path) -> None:
    go_before_control(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_kernel_takes_it() -> None:
    program = (
        "from agent.app.oom import SCORE, go_before_control\n"
        "before = int(SCORE.read_text())\n"
        "go_before_control()\n"
        "print(int(SCORE.read_text()) - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) <= ABOVE_CONTROL
