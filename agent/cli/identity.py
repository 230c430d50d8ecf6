"""
`podlock identity ...`: the identity service, and tokens for it.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import (
    Duration,
    directory_option,
    read,
    trust_domain_option,
    with_config,
)
from agent.cli.output import echo

if TYPE_CHECKING:
    from agent.identity.token import Caller


@click.group()
def identity() -> None:
    """The identity service, which gives every workload its certificate."""


@identity.command()
@with_config
def serve(file: Path | None, settings: tuple[str, ...]) -> None:
    """Run the identity service, until SIGTERM or SIGINT."""
    config = read(file, settings)
    from agent import app

    app.serve_identity(config)


@identity.group()
def token() -> None:
    """Join tokens: how an agent tells the service which node it is."""


@token.command("create")
@with_config
@directory_option
@trust_domain_option
@click.option("--node", metavar="NAME", help="For the agent of this node.")
@click.option("--workload", metavar="SPIFFE-ID", help="For a machine that is one.")
@click.option("--admin", is_flag=True, help="To ask for the authority's state.")
@click.option("--single-use", is_flag=True, help="Good for one certificate.")
@click.option("--ttl", type=Duration(), default="24h", show_default=True)
def create_token(
    file: Path | None,
    settings: tuple[str, ...],
    directory: Path | None,
    trust_domain: str | None,
    node: str | None,
    workload: str | None,
    admin: bool,
    single_use: bool,
    ttl: timedelta,
) -> None:
    """
    Print a new token. Who has it can ask for the identities of that node.

    An agent that renews its certificates needs one that is not for single use.
    """
    from agent.identity.store import Store
    from agent.identity.token import InvalidTokenRequest, issue_token

    caller = _caller(node, workload, admin)
    config = read(file, settings, trust_domain=trust_domain)
    store = Store(directory or config.authority.directory)
    # A token for a trust domain that is not this authority's would be refused later,
    # and far from here.
    domain = store.load().trust_domain
    if domain != config.trust_domain:
        raise InvalidTokenRequest(
            f"{store.state_path}: trust domain {domain}, expected {config.trust_domain}"
        )
    now = datetime.now(UTC)
    token = issue_token(
        store.token_key(), domain, caller, now=now, ttl=ttl, single_use=single_use
    )
    echo(token)


def _caller(node: str | None, workload: str | None, admin: bool) -> Caller:
    from agent.identity.spiffe import SpiffeId
    from agent.identity.token import AdminCaller, NodeCaller, WorkloadCaller

    token_id = secrets.token_hex(16)
    match node, workload, admin:
        case str(), None, False:
            return NodeCaller(node, token_id)
        case None, str(), False:
            return WorkloadCaller(SpiffeId.parse(workload), token_id)
        case None, None, True:
            return AdminCaller(token_id)
        case _:
            raise click.UsageError("expected one of --node, --workload and --admin")
