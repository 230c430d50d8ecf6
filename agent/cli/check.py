"""
`podlock check`: what is wrong with a running agent, and with the objects it goes by.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli.options import PATH, as_json, read, with_config


@click.command()
@with_config
@click.option(
    "--socket", type=PATH, help="The agent's status socket.  [default: as set]"
)
@as_json
def check(
    file: Path | None, settings: tuple[str, ...], socket: Path | None, as_json: bool
) -> None:
    """
    What keeps the agent from being ready, and what in the objects it cannot read,
    cannot enforce or takes otherwise than it was meant.

    Exit code 1 where there is anything.
    """
    from agent.status import client

    path = socket or read(file, settings).status.socket
    found = list(findings(client.fetch(path, "status", {})))
    if as_json:
        document = {"well": not found, "findings": found}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        for each in found:
            where = f"{each['object']}: {each['field']}" if each["field"] else "agent"
            click.echo(f"{where}: {each['message']}")
        click.echo(f"{len(found)} findings" if found else "nothing is wrong")
    if found:
        raise SystemExit(1)


def findings(status: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Object, field and message each; no object where it is about the agent."""
    for reason in status["not_ready_because"]:
        yield {"object": "", "field": "", "message": f"not ready: {reason}"}
    if reason := status["same_node"]["reason"]:
        yield {"object": "", "field": "", "message": f"same_node: tunnel: {reason}"}
    yield from status["problems"]
