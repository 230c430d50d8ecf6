"""Values of files and peers do nothing to a terminal, in no command's output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.output import echo, echo_block, echo_json
from agent.printable import escaped

CLI = Path(__file__).parents[3] / "agent" / "cli"
EVIL = "a\x1b[2Jb\nc\u202ed\x9be\U000e0001"


def test_a_line_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    echo(EVIL)
    out = capsys.readouterr().out
    assert out == r"a\u001b[2Jb\u000ac\u202ed\u009be\udb40\udc01" + "\n"


def test_a_block_has_lines(capsys: pytest.CaptureFixture[str]) -> None:
    echo_block("one\ntwo\x1b")
    assert capsys.readouterr().out == "one\ntwo\\u001b\n"


@given(st.text())
def test_what_is_printed_is_printable(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(escaped(text)) == escaped(text)


@pytest.mark.parametrize("value", [EVIL, "\ud7ff", "\U0001f600"])
def test_json_means_the_same(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"value": value})
    out = capsys.readouterr().out
    assert json.loads(out) == {"value": value}
    assert out.replace("\n", "").isprintable()


def test_every_command_prints_through_it() -> None:
    """A certificate signing request alone is written as bytes: it is base64."""
    direct = [
        (path.name, line.strip())
        for path in sorted(CLI.glob("*.py"))
        if path.name != "output.py"
        for line in path.read_text().splitlines()
        if re.search(r"click\.echo\(|(?<![\w.])print\(", line)
    ]
    assert direct == [("ca.py", "click.echo(content, nl=False)")]
