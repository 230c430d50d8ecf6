"""The picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from tests.bench import plot
from tests.bench.cases import QUICK, all_cases
from tests.bench.report import Results
from tests.bench.statistics import Summary
from tests.unit.bench.results import example

SVG = "{http://www.w3.org/2000/svg}"


def drawn(results: Results) -> ET.Element:
    """The picture, read back."""
    return ET.fromstring(plot.svg(results))  # noqa: S314 (we wrote it ourselves)


def test_it_is_xml_whatever_the_names() -> None:
    """A CPU called <fast> & cheap does not break it."""
    root = drawn(example())
    texts = [each.text or "" for each in root.iter(f"{SVG}text")]
    assert any("A <fast> & cheap CPU" in text for text in texts)


def test_bars_are_as_long_as_their_medians() -> None:
    """Podlock's 100 us are half of haproxy's 200 us and twice of no mesh."""
    panel = next(drawn(example()).iter(f"{SVG}g"))
    plain, podlock, haproxy = (
        float(bar.attrib["width"]) for bar in panel.iter(f"{SVG}rect")
    )
    assert abs(podlock - 2 * plain) < 0.2
    assert abs(haproxy - 2 * podlock) < 0.2


def test_podlock_stands_out() -> None:
    """Its bar has a colour of its own."""
    panel = next(drawn(example()).iter(f"{SVG}g"))
    colours = [bar.attrib["fill"] for bar in panel.iter(f"{SVG}rect")]
    assert colours[1] == plot.COLOURS["podlock"]
    assert colours.count(colours[1]) == 1


def test_nothing_measured_is_still_a_picture() -> None:
    """Every panel with dashes, no division by zero."""
    empty = replace(example(), summary=Summary.of([], []))
    root = drawn(empty)
    assert not [g for g in root.iter(f"{SVG}g") if list(g.iter(f"{SVG}line"))]


def test_every_panel_shows_what_is_measured() -> None:
    """No panel asks for a case or metric that does not exist."""
    asked = {(c.name, metric) for c in all_cases(QUICK) for metric in c.metrics}
    assert {(panel.case, panel.metric) for panel in plot.PANELS} <= asked


def test_the_svg_is_written_under_its_own_name(tmp_path: Path) -> None:
    """Also when the given name ends otherwise or not at all."""
    written = plot.write(example(), tmp_path / "speed.png")
    assert written[0] == tmp_path / "speed.svg"
    assert all(path.exists() for path in written)
