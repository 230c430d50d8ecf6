"""
`podlock ca ...`: what an operator does to the certificate authority.

Every command works on the authority's directory. A running `podlock identity serve`
or `podlock run` on the same directory follows within a second or two.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agent.cli.ca_show import NOT_YET, print_json, print_state, print_verdict
from agent.cli.group import FAILED
from agent.cli.options import (
    PATH,
    Duration,
    as_json,
    directory_option,
    read,
    trust_domain_option,
    with_config,
)
from agent.cli.output import echo

if TYPE_CHECKING:
    from agent.config import Config
    from agent.identity.store import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])

_FINGERPRINT: Final = click.argument("fingerprint", metavar="FINGERPRINT")
_FORCE: Final = click.option(
    "--force", is_flag=True, help="Do it all the same; what breaks is printed."
)


@dataclass(frozen=True, slots=True)
class Place:
    """The authority that a command is about."""

    config: Config
    store: Store
    now: datetime

    @property
    def silence(self) -> timedelta:
        """After so long a silent node holds no certificate that counts."""
        return timedelta(hours=self.config.identity.certificate_lifetime_hours)


def with_authority(command: _Command) -> _Command:
    """Adds the options that name an authority; the command takes them by `place`."""
    return with_config(directory_option(trust_domain_option(command)))


def place_of(
    file: Path | None,
    settings: tuple[str, ...],
    directory: Path | None,
    trust_domain: str | None,
) -> Place:
    """The authority of these options."""
    from agent.identity.store import Store

    config = read(file, settings, trust_domain=trust_domain)
    store = Store(directory or config.authority.directory)
    return Place(config, store, datetime.now(UTC))


@click.group()
def ca() -> None:
    """The certificate authority: anchors, issuer, compromise."""


@ca.command()
@with_authority
@click.option(
    "--anchor",
    type=PATH,
    metavar="FILE",
    help="An anchor whose key is elsewhere, in place of a new one.",
)
@as_json
def init(anchor: Path | None, as_json: bool, **names: Any) -> None:
    """Make a new authority."""
    from agent.identity.operations import initialize, initialize_under
    from agent.identity.signer_file import signers_in
    from agent.identity.store import BUNDLE

    place = place_of(**names)
    domain = place.config.trust_domain
    if anchor is None:
        initialize(place.store, domain, place.now)
    else:
        with signers_in(anchor) as anchor_pem:
            initialize_under(place.store, domain, anchor_pem)
    state = place.store.load()
    if as_json:
        print_json({"directory": str(place.store.directory), "version": state.version})
        return
    echo(f"{place.store.directory}: a new authority of {domain}")
    if state.issuer_pem is None:
        echo("next: podlock ca rotate-issuer --csr FILE, and have it signed")
    echo(f"agents need {place.store.directory / BUNDLE} and a token each")


@ca.command()
@with_authority
@click.option(
    "--may-retire",
    metavar="FINGERPRINT",
    help=f"Ask about one anchor: exit code 0 for yes, {NOT_YET} for not yet.",
)
@click.option("--service", metavar="URL", help="Ask a running identity service.")
@click.option("--anchors", type=PATH, metavar="FILE", help="How it is known; PEM.")
@click.option("--token", type=PATH, metavar="FILE", help="Made with --admin.")
@as_json
def show(
    may_retire: str | None,
    service: str | None,
    anchors: Path | None,
    token: Path | None,
    as_json: bool,
    **names: Any,
) -> int:
    """What signs, what is trusted, and what still needs each anchor."""
    from agent.app.authority import state_view

    place = place_of(**names)
    if service is not None:
        from agent.app.remote import ask_state

        if anchors is None or token is None:
            raise click.UsageError("--service: expected --anchors and --token too")
        state = ask_state(service, anchors, token)
    else:
        state = state_view(place.store, place.silence)
    if may_retire is not None:
        return print_verdict(state, may_retire, as_json=as_json)
    print_json(state) if as_json else print_state(state)
    return 0


@ca.command("rotate-issuer")
@with_authority
@click.option("--csr", type=PATH, metavar="FILE", help="Write a request for an issuer.")
@click.option(
    "--certificate", type=PATH, metavar="FILE", help="Install what was made of it; PEM."
)
@click.option("--lifetime", type=Duration(), default="365d", show_default=True)
@_FORCE
@as_json
def rotate_issuer(
    csr: Path | None,
    certificate: Path | None,
    lifetime: timedelta,
    force: bool,
    as_json: bool,
    **names: Any,
) -> None:
    """
    Sign by a new issuer from now on.

    Under an anchor whose key is not here: --csr FILE first, have it signed where the
    key is, then --certificate FILE. Workloads are issued again within minutes.
    """
    from agent.identity import operations
    from agent.identity.signer_file import signers_in

    place = place_of(**names)
    if csr is not None and certificate is not None:
        raise click.UsageError("expected --csr or --certificate, not both")
    if csr is not None:
        csr.write_bytes(operations.request_new_issuer(place.store))
        _done(place, as_json, f"{csr}: have it signed, then --certificate FILE")
        return
    if certificate is not None:
        with signers_in(certificate) as issuer_pem:
            operations.install_issuer(
                place.store, issuer_pem, place.now, place.silence, force=force
            )
    else:
        operations.rotate_issuer(place.store, place.now, lifetime)
    _done(place, as_json, "a new issuer signs from now on")


@ca.command("add-anchor")
@with_authority
@click.option(
    "--certificate", type=PATH, metavar="FILE", help="One whose key is elsewhere; PEM."
)
@click.option("--lifetime", type=Duration(), default="3650d", show_default=True)
@as_json
def add_anchor(
    certificate: Path | None, lifetime: timedelta, as_json: bool, **names: Any
) -> None:
    """Make everyone trust one more anchor. It signs nothing until it is promoted."""
    from agent.identity import operations
    from agent.identity.signer_file import signers_in

    place = place_of(**names)
    with signers_in(certificate) if certificate else nullcontext() as pem:
        anchor = operations.add_anchor(place.store, pem, place.now, lifetime)
    text = f"anchor {anchor.fingerprint} is trusted from now on"
    _done(place, as_json, text, fingerprint=anchor.fingerprint)


@ca.command("promote-anchor")
@with_authority
@_FINGERPRINT
@_FORCE
@as_json
def promote_anchor(fingerprint: str, force: bool, as_json: bool, **names: Any) -> None:
    """
    Sign under another anchor from now on; its key is here.

    Refused while a node does not trust it yet. For an anchor whose key is elsewhere,
    install an issuer under it with rotate-issuer --certificate.
    """
    from agent.identity import operations

    place = place_of(**names)
    anchor = operations.promote_anchor(
        place.store, fingerprint, place.now, place.silence, force=force
    )
    text = f"anchor {anchor.fingerprint} signs from now on"
    _done(place, as_json, text, fingerprint=anchor.fingerprint)


@ca.command("retire-anchor")
@with_authority
@_FINGERPRINT
@_FORCE
@as_json
def retire_anchor(fingerprint: str, force: bool, as_json: bool, **names: Any) -> None:
    """Make nobody trust an anchor any more. Refused while anything needs it."""
    from agent.identity import operations

    place = place_of(**names)
    anchor, broken = operations.retire_anchor(
        place.store, fingerprint, place.now, place.silence, force=force
    )
    text = f"anchor {anchor.fingerprint} is not trusted any more"
    broke = [str(need) for need in broken]
    _done(place, as_json, text, fingerprint=anchor.fingerprint, broke=broke)


@ca.command("taint")
@with_authority
@click.argument("fingerprint", metavar="FINGERPRINT", required=False)
@click.option(
    "--certificate",
    type=PATH,
    metavar="FILE",
    help="A signer that is not in use any more, by its certificate.",
)
@_FORCE
@as_json
def taint(
    fingerprint: str | None,
    certificate: Path | None,
    force: bool,
    as_json: bool,
    **names: Any,
) -> None:
    """
    Declare an issuer or anchor compromised: nothing under it counts any more.

    Where it signs now, the same step makes a new issuer. Everything under it is issued
    again at once, and connections that rest on it are closed.
    """
    from agent.identity import operations
    from agent.identity.signer_file import signers_in

    place = place_of(**names)
    if (fingerprint is None) == (certificate is None):
        raise click.UsageError("expected a fingerprint, or --certificate FILE")
    if certificate is not None:
        with signers_in(certificate) as signer_pem:
            mark = operations.taint_certificate(place.store, signer_pem, place.now)
    else:
        assert fingerprint is not None
        mark = operations.taint(place.store, fingerprint, place.now, force=force)
    text = f"{mark.kind} {mark.fingerprint} is tainted"
    if place.store.load().issuer_pem is None:
        text += "; nothing can be signed until an issuer is installed"
    _done(place, as_json, text, fingerprint=mark.fingerprint)


@ca.command("revoke")
@with_authority
@click.argument("serial")
@as_json
def revoke(serial: str, as_json: bool, **names: Any) -> None:
    """
    Put one certificate on the issuer's revocation list, by its serial number (hex).

    Agents read the list from where `identity.crl` points.
    """
    from agent.identity import revocation
    from agent.identity.store import AUDIT_LOG

    place = place_of(**names)
    named = place.config.authority.audit_log
    log = named or place.store.directory / AUDIT_LOG
    revoked, path = revocation.revoke(place.store, log, serial, place.now)
    text = f"{path}: revokes {serial} of {revoked.identity}"
    _done(place, as_json, text, file=str(path), identity=revoked.identity)


@ca.command("forget-node")
@with_authority
@click.argument("node")
@as_json
def forget_node(node: str, as_json: bool, **names: Any) -> int:
    """A node that will not come back, so that no anchor waits for it."""
    from agent.identity.nodes import NodeRecords

    place = place_of(**names)
    place.store.load()
    if not NodeRecords(place.store.directory).forget(node):
        echo(f"podlock: error: node {node}: is not known", err=True)
        return FAILED
    _done(place, as_json, f"node {node} is forgotten")
    return 0


@ca.command("export")
@with_authority
@click.option(
    "--format",
    "form",
    type=click.Choice(["pem", "spiffe", "trust"]),
    default="pem",
    show_default=True,
    help="The anchors: PEM, a SPIFFE bundle document; or all that agents are told.",
)
@click.option("--output", type=PATH, metavar="FILE", help="[default: standard output]")
def export(form: str, output: Path | None, **names: Any) -> None:
    """Print what this authority wants to be trusted. No key is in it."""
    from agent.identity.spiffe_bundle import format_document, published

    state = place_of(**names).store.load()
    match form:
        case "pem":
            content = state.bundle.pem
        case "spiffe":
            content = format_document(published(state.trust)) + b"\n"
        case _:
            content = state.trust.format() + b"\n"
    if output is None:
        click.echo(content, nl=False)
    else:
        output.write_bytes(content)


def _done(place: Place, as_json: bool, text: str, **facts: Any) -> None:
    version = place.store.load().version
    if as_json:
        print_json({"version": version, "message": text, **facts})
        return
    echo(f"{text} (version {version})")
    for broken in facts.get("broke", ()):
        echo(f"  broke {broken}")
