"""
Options that several commands share, and what they come to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agent.config import Config, load

_Command = TypeVar("_Command", bound=Callable[..., Any])

PATH: Final = click.Path(path_type=Path)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def with_config(command: _Command) -> _Command:
    """Adds `--config` and `--set`; the command takes `file` and `settings`."""
    file = click.option(
        "--config",
        "file",
        type=PATH,
        metavar="FILE",
        help="The configuration.  [default: /etc/podlock/podlock.yaml, if there]",
    )
    settings = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="One setting, such as limits.drain_seconds=3; may be repeated.",
    )
    return file(settings(command))


directory_option = click.option(
    "--directory",
    type=PATH,
    metavar="DIR",
    help="The authority's files.  [default: authority.directory]",
)
trust_domain_option = click.option(
    "--trust-domain", metavar="NAME", help="Such as cluster.local.  [default: as set]"
)
as_json: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def read(
    file: Path | None, settings: Iterable[str] = (), **flags: str | Path | None
) -> Config:
    """The configuration under these options. Raises: ConfigError, UsageError."""
    given = {key: str(value) for key, value in flags.items() if value is not None}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set {text}: expected KEY=VALUE")
        given[key] = value
    return load(file, given)


class Duration(click.ParamType[timedelta]):
    """`90s`, `15m`, `24h`, `30d`."""

    name = "duration"

    def convert(
        self,
        value: str | timedelta,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhd])", value, re.ASCII)
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r}: expected 90s, 15m, 24h or 30d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
