"""Every command that our words name is one that the command line knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agent.cli import podlock

ROOT = Path(__file__).parents[3]
# In backticks or parentheses, also where it goes on in an f-string's value.
NAMED = re.compile(r"[`(]podlock((?: [^`(){}\n]+)?)[`){]")


def named_in(path: Path) -> Iterator[str]:
    """What the string literals of a module name, parts of one literal joined."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.JoinedStr(values=values):
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{"
                    for part in values
                )
            case ast.Constant(value=str(text)):
                pass
            case _:
                continue
        yield from (found[1] for found in NAMED.finditer(" ".join(text.split())))


def unknown(words: str) -> str | None:
    """The first word that the command line does not take; None where it takes all."""
    command: click.Command = podlock
    context = click.Context(podlock)
    for word in words.replace(",", " ").split():
        if isinstance(command, click.Group) and re.fullmatch(r"[a-z-]+", word):
            found = command.get_command(context, word)
            if found is None:
                return word
            command = found
        elif word.startswith("--"):
            options = {o for param in command.params for o in param.opts}
            if word.partition("=")[0] not in {*options, "--help"}:
                return word
    return None


MODULES = sorted((ROOT / "agent").rglob("*.py"))


def test_finds_a_wrong_one() -> None:
    """Commands that never existed, and an option that belongs to another."""
    assert unknown(" authz seen --json") == "seen"
    assert unknown(" authz diff DIR --form") == "--form"
    assert unknown(" authz diff DIR --prune") is None


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_named_commands_exist(path: Path) -> None:
    """In messages, notes and docstrings alike."""
    for words in named_in(path):
        assert unknown(words) is None, f"podlock{words}"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_documents_too(name: str) -> None:
    """What a person copies from them."""
    for found in re.finditer(r"`podlock( [^`\n]+)`", (ROOT / name).read_text()):
        assert unknown(found[1]) is None, found[0]
