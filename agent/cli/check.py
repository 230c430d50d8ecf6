"""
`podlock check --pre`.
"""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.options import read, with_config


@click.command()
@with_config
@click.option("--pre", is_flag=True, required=True, help="Before an agent starts.")
def check(file: Path | None, settings: tuple[str, ...], pre: bool) -> None:
    """What would keep an agent from working, and what to do about it."""
    assert pre  # the only one so far; `podlock status` tells of a running agent
    config = read(file, settings)
    from agent import app

    findings = app.check_before(config)
    for finding in findings:
        click.echo(
            f"{'ok ' if finding.is_well else 'BAD'} {finding.subject}: "
            f"{finding.message}"
        )
        if finding.advice:
            click.echo(f"    {finding.advice}")
    if not all(finding.is_well for finding in findings):
        raise SystemExit(1)
