"""
`podlock status`, `workloads`, `certificates`, `policies`, `connections`, `seen`,
`events`, `objects`.

One command per document of the status socket; its filters are the command's options.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from agent.cli.options import PATH, as_json, with_config
from agent.status import routes
from agent.status.documents import NAMES, Name

if TYPE_CHECKING:
    from rich.console import Console

WATCH_SECONDS: Final = 1.0
# A pipe has no width; wide enough that nobody's grep misses a folded name.
PIPE_COLUMNS: Final = 400

_HELP: Final[dict[Name, str]] = {
    "status": "How the agent is, and what is wrong.",
    "workloads": "Pods: who they are and whether they are in the mesh.",
    "certificates": "Certificates of this node's workloads, and trust anchors.",
    "policies": "Who may talk to each workload of this node.",
    "connections": "Open and recent connections; why one was refused.",
    "seen": "Who has talked to whom since the agent started, summed up.",
    "events": "What happened lately.",
    "objects": "Every object that the agent goes by, as manifests.",
}


def _command(name: Name) -> click.Command:
    def ask(
        file: Path | None,
        settings: tuple[str, ...],
        socket: Path | None,
        as_json: bool,
        watch: bool,
        **filters: str | None,
    ) -> None:
        from agent.cli import left

        path, config = left.agent_at(socket, file, settings)
        given = {key: value for key, value in filters.items() if value is not None}
        while True:
            document = left.fetch(path, name, given, config)
            _show(name, document, as_json=as_json, clear=watch)
            if not watch:
                return
            time.sleep(WATCH_SECONDS)

    ask.__doc__ = _HELP[name]
    for key, accepted in reversed(routes.FILTERS[name].items()):
        kind = click.Choice(accepted.values) if accepted.values else None
        ask = click.option(f"--{key}", type=kind, help=f"Only this {key}.")(ask)
    ask = click.option("--watch", is_flag=True, help="Again every second.")(ask)
    socket = click.option(
        "--socket", type=PATH, help="The agent's status socket.  [default: as set]"
    )
    return click.command(name)(with_config(as_json(socket(ask))))


def _show(name: Name, document: dict[str, Any], *, as_json: bool, clear: bool) -> None:
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(document), indent=2)
        click.echo(text)
        return
    from agent.status.render import render

    if clear:
        click.clear()
    console().print(render(name, document, time.time()))


def console() -> Console:
    """Standard output, as wide as it is."""
    from rich.console import Console

    out = Console()
    return out if out.is_terminal else Console(width=PIPE_COLUMNS)


COMMANDS: Final = tuple(_command(name) for name in NAMES)
