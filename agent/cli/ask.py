"""
`podlock status`, `workloads`, `certificates`, `policies`, `connections`, `seen`,
`events`, `objects`.

One command per document of the status socket; its filters are the command's options,
and the names after the command are the filter by what it lists.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from agent.cli.group import USAGE, fail
from agent.cli.options import PATH, as_json, with_config
from agent.cli.output import echo_block
from agent.status.documents import NAMES, Name
from agent.status.filters import FILTERS, POSITIONAL, Filter

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
        names: tuple[str, ...] = (),
        **filters: tuple[str, ...],
    ) -> None:
        from agent.cli import left

        path, config = left.agent_at(socket, file, settings)
        given = {key: list(values) for key, values in filters.items() if values}
        if names:
            given.setdefault(POSITIONAL[name], []).extend(names)
        first = True
        while True:
            document = left.fetch(path, name, given, config)
            if first and (unknown := document.get("filtered", {}).get("unknown")):
                fail(USAGE, *unknown)
            first = False
            _show(name, document, as_json=as_json, clear=watch)
            if not watch:
                return
            time.sleep(WATCH_SECONDS)

    ask.__doc__ = _HELP[name]
    for key, accepted in reversed(FILTERS[name].items()):
        ask = _option(key, accepted)(ask)
    if name in POSITIONAL:
        ask = click.argument("names", nargs=-1, metavar="[NAME]...")(ask)
    ask = click.option("--watch", is_flag=True, help="Again every second.")(ask)
    socket = click.option(
        "--socket", type=PATH, help="The agent's status socket.  [default: as set]"
    )
    return click.command(name)(with_config(as_json(socket(ask))))


def _option(key: str, accepted: Filter) -> Callable[[Any], Any]:
    kind = click.Choice(accepted.values) if accepted.values else None
    text = f"Only this {accepted.what}; may be repeated."
    return click.option(f"--{key}", type=kind, multiple=True, help=text)


def _show(name: Name, document: dict[str, Any], *, as_json: bool, clear: bool) -> None:
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(document), indent=2)
        echo_block(text.decode())
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
