"""Reading /proc for the stamp."""

from __future__ import annotations

from tests.bench import stamp
from tests.unit.bench.results import STAMP


def test_a_field_that_is_not_there_is_empty() -> None:
    """Machines differ: no `model name` on some."""
    assert stamp.field("a : b\n\nnonsense", "model name") == ""


def test_the_first_field_of_a_name_counts() -> None:
    """One processor speaks for all; values may have colons."""
    assert stamp.field("model name\t: A: 1\nmodel name\t: B", "model name") == "A: 1"


def test_memory_is_in_bytes() -> None:
    """/proc says kB and means KiB; what it does not say is 0."""
    assert stamp.kibibytes("2 kB") == 2048
    assert stamp.kibibytes("") == 0


def test_a_line_has_what_matters() -> None:
    """Date, kernel and machine."""
    line = STAMP.line()
    assert line.startswith("2026-01-02, Linux 6.1.0, 2 cores of A <fast> & cheap CPU")
