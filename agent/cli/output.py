"""
What commands print, in one place: nothing of it does more to a terminal than text.
"""

from __future__ import annotations

import click
import msgspec

from agent.printable import escaped


def echo(line: str, *, err: bool = False) -> None:
    """One line; a newline in a value does not begin another."""
    click.echo(escaped(line), err=err)


def echo_block(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Several lines, whose values are escaped by who made them."""
    click.echo(escaped(text, keep="\n"), nl=nl, err=err)


def echo_json(document: object) -> None:
    """A document as JSON; what is not printable stands as an escape."""
    encoded = msgspec.json.encode(document)
    echo_block(msgspec.json.format(encoded, indent=2).decode())
