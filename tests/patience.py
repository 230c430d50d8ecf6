"""
How long the tests wait: deadlines for a usual machine, longer ones where it is slow.

The one knob is TEST_PATIENCE, a factor from 1 up; `./run vm` sets it where a virtual
machine is emulated. What is checked stays the same: every deadline, those that a test
claims ("within a second") among them, becomes so many times as long, and so does the
time in which something must *not* happen; load becomes as much less. The figures that
are told are those measured.
"""

from __future__ import annotations

import math
import os
from typing import Final

# Not PODLOCK_...: the agent takes what begins so for a setting, and refuses strangers.
VARIABLE: Final = "TEST_PATIENCE"


def read(text: str | None) -> float:
    """The factor that a setting means; nothing set is 1. Raises: ValueError."""
    if not text:
        return 1.0
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 1 <= factor <= 100:
        raise ValueError(f"{VARIABLE}={text}: expected a factor from 1 to 100")
    return factor


FACTOR: Final = read(os.environ.get(VARIABLE))  # noqa: TID251 (the tests' one knob)


def patient(seconds: float) -> float:
    """A deadline for the machine that this runs on."""
    return seconds * FACTOR


def bearable(rate: float) -> float:
    """How often a second something is asked of the machine that this runs on."""
    return rate / FACTOR
