"""What a run says to a person and to a program."""

from __future__ import annotations

import io
import json

from rich.console import Console

from tests.bench import report
from tests.bench.statistics import P50, SPEED, Spread
from tests.unit.bench.results import example


def shown() -> str:
    """The example as it is printed."""
    out = io.StringIO()
    report.show(example(), Console(file=out, width=200, highlight=False))
    return out.getvalue()


def test_a_cell_has_median_and_spread_in_its_unit() -> None:
    """Microseconds and GB/s, not SI; no spread for one round; nothing is a dash."""
    assert report.cell(Spread(100e-6, 90e-6, 300e-6, 3), P50) == "100 (90.0-300)"
    assert report.cell(Spread(1.234e9, 1e9, 2e9, 1), SPEED) == "1.23"
    assert report.cell(None, P50) == "-"


def test_numbers_have_three_digits_and_no_exponent() -> None:
    """From hundredths to millions."""
    values = [0.0, 0.004, 1.236, 12.34, 123.4, 1234567.0]
    numbers = [report.number(value) for value in values]
    assert numbers == ["0", "0.00", "1.24", "12.3", "123", "1,234,567"]


def test_the_table_has_every_contestant_and_the_ratio() -> None:
    """Podlock's 100 us over haproxy's 200 us is 0.50."""
    text = shown()
    (row,) = [line for line in text.splitlines() if "p50, us" in line]
    for part in ("50.0", "100 (90.0-300)", "200", "0.50", "haproxy"):
        assert part in row


def test_failures_are_said_once_with_their_count() -> None:
    """Twice the same is one line; brackets are text and no markup."""
    assert "[broken] & gone (2 times)" in shown()


def test_the_document_is_json_with_stamp_and_goals() -> None:
    """Everything that was measured, and on what."""
    document = json.loads(json.dumps(report.document(example())))
    assert document["stamp"]["kernel"] == "6.1.0"
    assert {"case", "goal", "figure", "met"} <= set(document["goals"][0])
    assert document["runs"][-1]["error"] == "[broken] & gone"
    assert document["summary"][0] == {
        "scope": "cross-node",
        "case": "round trip, 1",
        "metric": "p50_seconds",
        "contestant": "plain",
        "median": 50e-6,
        "least": 50e-6,
        "most": 50e-6,
        "rounds": 1,
    }
