"""When the memory of a process counts as flat."""

from __future__ import annotations

import pytest

from tests.soak.memory import judged

MIB = 1 << 20


def test_warming_up_is_no_growth() -> None:
    """The first third does not count."""
    assert judged("p", [10 * MIB] * 5 + [40 * MIB] * 10).flat is True


@pytest.mark.parametrize(
    ("second", "last", "flat"),
    [
        (40, 43, True),
        (40, 45, False),  # more than a tenth
        (200, 207, True),
        (200, 209, False),  # more than 8 MiB
        (40, 30, True),
    ],
)
def test_the_last_third_against_the_second(second: int, last: int, flat: bool) -> None:
    """At most 10 % and at most 8 MiB more."""
    samples = [size * MIB for size in (30, second, last) for _ in range(5)]
    verdict = judged("p", samples)
    assert verdict.flat is flat
    assert (verdict.second_bytes, verdict.last_bytes) == (second * MIB, last * MIB)


def test_a_steady_leak() -> None:
    """Half a MiB a sample, for two minutes."""
    assert judged("p", [(30 + n // 2) * MIB for n in range(60)]).flat is False


def test_too_few_to_say() -> None:
    """No verdict is given, rather than a good one."""
    assert judged("p", [MIB] * 8).flat is None
    assert judged("p", [MIB]).flat is None
    with pytest.raises(ValueError, match="at least one"):
        judged("p", [])
