"""
What a person types: `podlock COMMAND`.

    run         the agent of one node
    status ...  what the agent tells: one command per document
    check       what is wrong, or (--pre) would be, as findings and an exit code
    authz ...   who may talk to whom, asked beforehand: check, who-can, diff, suggest
    config      what is set, and whether it is valid
    identity    the identity service, and tokens for it
    ca          the certificate authority: anchors, issuer, compromise
    redirect    the eBPF programs
    policy      policy objects: whether they are valid, their definitions

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration; `authz` has its own. A
command imports what it needs when it runs, so that `podlock status` is quick.
"""

from __future__ import annotations

import click

from agent.cli import ask, authz, ca, check, identity, operate, policy, settings
from agent.cli.group import PodlockGroup


@click.group(cls=PodlockGroup, context_settings={"help_option_names": ["-h", "--help"]})
def podlock() -> None:
    """Mutual TLS for every pod, by one agent per node."""


for command in (
    operate.run,
    *ask.COMMANDS,
    check.check,
    authz.authz,
    settings.config,
    identity.identity,
    ca.ca,
    operate.redirect,
    policy.policy,
    operate.version,
):
    podlock.add_command(command)

__all__ = ["podlock"]
