"""What logging costs a process, and leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def printed(program: str) -> str:
    """By a Python of its own, for this one has loaded everything."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_worker_does_not_load_what_paints_tables() -> None:
    program = "import sys, agent.app.worker; print('rich' in sys.modules)"
    assert printed(program) == "False"


def test_who_wants_it_has_it_before_and_after() -> None:
    program = "import rich, agent.log, rich.table; print(rich.__name__)"
    assert printed(program) == "rich"
    program = "import agent.log, rich.table; print(rich.__name__)"
    assert printed(program) == "rich"


def test_an_exception_is_told_in_both_formats() -> None:
    program = (
        "import sys; from agent.log import configure, logger\n"
        "for form in ('json', 'console'):\n"
        "    configure('info', form, sys.stdout)\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError: logger().exception('broken')"
    )
    assert printed(program).count("ZeroDivisionError: division by zero") == 2
