"""
What a person types: `podlock COMMAND`.

    run         the agent of one node
    status ...  what the agent tells: one command per document
    check       what would keep an agent from working
    config      what is set, and whether it is valid
    identity    the identity service, and tokens for it
    ca          the certificate authority's files
    redirect    the eBPF programs

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. A command imports what
it needs when it runs, so that `podlock status` is quick.
"""

from __future__ import annotations

import click

from agent.cli import ask, authority, check, operate, settings
from agent.cli.group import PodlockGroup


@click.group(cls=PodlockGroup, context_settings={"help_option_names": ["-h", "--help"]})
def podlock() -> None:
    """Mutual TLS for every pod, by one agent per node."""


for command in (
    operate.run,
    *ask.COMMANDS,
    check.check,
    settings.config,
    authority.identity,
    authority.ca,
    operate.redirect,
    operate.version,
):
    podlock.add_command(command)

__all__ = ["podlock"]
