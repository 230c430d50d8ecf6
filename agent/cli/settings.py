"""
`podlock config show` and `podlock config check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from agent.cli.options import as_json, read, with_config
from agent.cli.output import echo, echo_block, echo_json


@click.group()
def config() -> None:
    """What is set, and whether it is valid."""


@config.command()
@with_config
@as_json
def show(file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """The effective settings, and where each came from."""
    document = read(file, settings).document()
    if as_json:
        echo_json(document)
    else:
        for line in _lines(document["values"], document["origins"]):
            echo_block(line)


@config.command()
@with_config
def check(file: Path | None, settings: tuple[str, ...]) -> None:
    """Nothing but an exit code, and the first mistake if there is one."""
    read(file, settings)
    echo("valid")


def _lines(
    values: Mapping[str, Any], origins: Mapping[str, str], section: str = ""
) -> Iterator[str]:
    """YAML that reads back, with the origin of whatever is no default beside it."""
    indent = "  " if section else ""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{name}:"
            yield from _lines(value, origins, f"{name}.")
            continue
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
        origin = origins[section + name]
        comment = "" if origin == "default" else f"  # {origin}"
        yield f"{indent}{name}: {text.splitlines()[0]}{comment}"
