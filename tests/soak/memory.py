"""Whether the memory of a process is flat. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_GROWTH: Final = 0.10
MOST_BYTES: Final = 8 << 20
# With fewer in a third a median is an accident.
LEAST_SAMPLES: Final = 9


@dataclass(frozen=True, slots=True)
class Verdict:
    """The medians of the thirds; `flat` None: too few samples to say so."""

    process: str
    first_bytes: float
    second_bytes: float
    last_bytes: float
    flat: bool | None


def judged(process: str, samples: Sequence[int]) -> Verdict:
    """
    Flat: the last third at most 10 %, and at most 8 MiB, above the second one.

    The first third is left out: buffers, tunnels and allocators fill up in it. Raises:
    ValueError where there is no sample.
    """
    if not samples:
        raise ValueError(f"{process}: expected at least one sample")
    size = max(len(samples) // 3, 1)
    first, second, last = (
        statistics.median(part or samples)
        for part in (samples[:size], samples[size : 2 * size], samples[2 * size :])
    )
    growth = last - second
    flat = growth <= second * MOST_GROWTH and growth <= MOST_BYTES
    enough = len(samples) >= LEAST_SAMPLES
    return Verdict(process, first, second, last, flat if enough else None)
