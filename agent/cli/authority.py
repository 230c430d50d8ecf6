"""
`podlock identity ...` and `podlock ca ...`: the certificate authority.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agent.cli.options import PATH, Duration, as_json, read, with_config

if TYPE_CHECKING:
    from agent.identity.authority import Authority
    from agent.identity.token import Caller

directory_option = click.option(
    "--directory",
    type=PATH,
    metavar="DIR",
    help="The authority's files.  [default: authority.directory]",
)
trust_domain_option = click.option(
    "--trust-domain", metavar="NAME", help="Such as cluster.local.  [default: as set]"
)


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
@click.option("--ttl", type=Duration(), default="24h", show_default=True)
def create_token(
    file: Path | None,
    settings: tuple[str, ...],
    directory: Path | None,
    trust_domain: str | None,
    node: str | None,
    workload: str | None,
    ttl: timedelta,
) -> None:
    """Print a new token. Who has it can ask for the identities of that node."""
    from agent.identity import keystore
    from agent.identity.token import issue_token

    caller = _caller(node, workload)
    config = read(file, settings, trust_domain=trust_domain)
    now = datetime.now(UTC)
    place = directory or config.authority.directory
    # The whole authority, not the key alone: a token for a trust domain that is not
    # this authority's would be refused later, and far from here.
    _, key = keystore.load(place, config.trust_domain, now=now)
    click.echo(issue_token(key, config.trust_domain, caller, now=now, ttl=ttl))


def _caller(node: str | None, workload: str | None) -> Caller:
    from agent.identity.spiffe import SpiffeId
    from agent.identity.token import NodeCaller, WorkloadCaller

    token_id = secrets.token_hex(16)
    if node is not None and workload is None:
        return NodeCaller(node, token_id)
    if workload is not None and node is None:
        return WorkloadCaller(SpiffeId.parse(workload), token_id)
    raise click.UsageError("expected one of --node and --workload")


@click.group()
def ca() -> None:
    """The certificate authority's files: trust anchor, issuer, token key."""


@ca.command()
@with_config
@directory_option
@trust_domain_option
def init(
    file: Path | None,
    settings: tuple[str, ...],
    directory: Path | None,
    trust_domain: str | None,
) -> None:
    """Make a new authority."""
    from agent.identity import keystore

    config = read(file, settings, trust_domain=trust_domain)
    place = directory or config.authority.directory
    keystore.create(place, config.trust_domain, now=datetime.now(UTC))
    click.echo(f"{place}: a new authority of {config.trust_domain}")
    click.echo(f"agents need {place / keystore.BUNDLE} and a token each")


@ca.command("show")
@with_config
@directory_option
@trust_domain_option
@as_json
def show_ca(
    file: Path | None,
    settings: tuple[str, ...],
    directory: Path | None,
    trust_domain: str | None,
    as_json: bool,
) -> None:
    """Trust anchors and issuer, and until when they are valid."""
    from agent.identity import keystore

    config = read(file, settings, trust_domain=trust_domain)
    place = directory or config.authority.directory
    authority, _ = keystore.load(place, config.trust_domain, now=datetime.now(UTC))
    document = _document(authority)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
        return
    click.echo(f"trust domain  {document['trust_domain']}")
    for role in ("anchor", "issuer"):
        for each in document[f"{role}s"]:
            click.echo(f"{role}        {each['subject']}, until {each['not_after']}")
            if "fingerprint" in each:
                click.echo(f"              {each['fingerprint']}")


def _document(authority: Authority) -> dict[str, Any]:
    from agent.status.documents import iso

    return {
        "trust_domain": str(authority.trust_domain),
        "anchors": [
            {
                "fingerprint": anchor.fingerprint,
                "subject": anchor.subject,
                "not_after": iso(anchor.not_after.timestamp()),
            }
            for anchor in authority.bundle.anchors
        ],
        "issuers": [
            {
                "subject": authority.issuer.subject.rfc4514_string(),
                "serial": f"{authority.issuer.serial_number:x}",
                "not_after": iso(authority.not_after.timestamp()),
            }
        ],
    }
