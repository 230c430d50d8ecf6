"""
`podlock run`, `podlock redirect remove`, `podlock version`.
"""

from __future__ import annotations

from pathlib import Path

import click

from agent import __version__
from agent.cli.options import PATH, read, with_config
from agent.cli.output import echo


@click.command()
@with_config
@click.option("--node", metavar="NAME", help="This node's name.  [default: the host's]")
@click.option("--trust-domain", metavar="NAME", help="Such as cluster.local.")
@click.option("--manifests", type=PATH, metavar="DIR", help="Where the objects are.")
def run(
    file: Path | None,
    settings: tuple[str, ...],
    node: str | None,
    trust_domain: str | None,
    manifests: Path | None,
) -> None:
    """Run the agent of this node, until SIGTERM or SIGINT."""
    config = read(
        file, settings, node=node, trust_domain=trust_domain, manifests=manifests
    )
    from agent import app

    app.run(config)


@click.group()
def redirect() -> None:
    """The eBPF programs that bring connections to the agent."""


@redirect.command()
@with_config
@click.option("--force", is_flag=True, help="Also while an agent runs.")
def remove(file: Path | None, settings: tuple[str, ...], force: bool) -> None:
    """
    Detach every program and unpin everything.

    From then on pods talk in plaintext, past the agent and past every policy. A
    running agent attaches its programs again within seconds: stop it first.
    """
    config = read(file, settings)
    from agent import app

    app.remove_redirect(config, force=force)
    echo(f"removed {config.redirect.pins}: pods now talk past Podlock")


@click.command()
def version() -> None:
    """The version of this program."""
    echo(f"podlock {__version__}")
