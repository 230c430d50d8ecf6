"""How `podlock ca show` looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.cli.output import echo, echo_block
from agent.errors import InputError

if TYPE_CHECKING:
    from agent.identity.overview import AnchorView, FederatedView, StateView

NOT_YET: Final = 3
_DAY: Final = "%Y-%m-%d"
_SECOND: Final = "%Y-%m-%dT%H:%M:%SZ"


class UnknownAnchor(InputError):
    """A fingerprint that no anchor of the authority has."""


def print_json(document: Any) -> None:
    """Any document, for programs."""
    encoded = msgspec.json.encode(document)
    echo_block(msgspec.json.format(encoded, indent=2).decode())


def print_state(state: StateView) -> None:
    """The authority, for people."""
    echo(f"trust domain  {state.trust_domain}, version {state.version}")
    for problem in state.problems:
        echo(f"problem       {problem}")
    if state.issuer is None:
        echo("issuer        none: nothing can be signed")
    else:
        issuer = state.issuer
        key = "" if issuer.key_here else ", key elsewhere"
        until = issuer.not_after.strftime(_DAY)
        echo(f"issuer        {issuer.subject}, until {until}{key}")
        echo(f"              {issuer.fingerprint}")
    if state.request_waits:
        echo("request       waits for its certificate (rotate-issuer)")
    for anchor in state.anchors:
        _print_anchor(anchor)
    for word, marks in (("retiring", state.retiring), ("tainted", state.tainted)):
        for mark in marks:
            echo(f"{word:<14}{mark.kind} {mark.subject}")
            echo(f"              {mark.fingerprint}")
    for domain in state.federated:
        _print_federated(domain)
    for node in state.nodes:
        heard = node.heard_at.strftime(_SECOND) if node.heard_at else "never"
        behind = "" if node.current else f", not version {state.version}"
        echo(
            f"node          {node.node}: version {node.version or 'unknown'}{behind}, "
            f"{node.identities} identities, {node.connections} connections, "
            f"heard {heard}"
        )
    for name, count in sorted(state.counters.items()):
        echo(f"count         {name} {count}")


def print_verdict(state: StateView, prefix: str, *, as_json: bool) -> int:
    """
    Whether an anchor may be retired. Returns: the exit code.

    Raises: UnknownAnchor.
    """
    found = [a for a in state.anchors if a.fingerprint.startswith(prefix.lower())]
    if len(found) != 1:
        known = ", ".join(anchor.fingerprint for anchor in state.anchors)
        raise UnknownAnchor(f"anchor {prefix}: expected one of {known}")
    (anchor,) = found
    if as_json:
        print_json(anchor)
    elif anchor.may_retire:
        echo(f"yes: nothing needs anchor {anchor.fingerprint}")
    else:
        echo(f"not yet: anchor {anchor.fingerprint} is needed by")
        _print_needs(anchor)
    return 0 if anchor.may_retire else NOT_YET


def _print_anchor(anchor: AnchorView) -> None:
    key = "key here" if anchor.key_here else "key elsewhere"
    until = anchor.not_after.strftime(_DAY)
    echo(f"anchor        {anchor.subject}, {anchor.role}, until {until}, {key}")
    echo(f"              {anchor.fingerprint}")
    if anchor.role != "signing":
        answer = "may be retired" if anchor.may_retire else "is needed by"
        echo(f"              {answer}")
        _print_needs(anchor)


def _print_federated(domain: FederatedView) -> None:
    echo(f"federated     {domain.trust_domain}")
    for fingerprint in domain.anchors:
        echo(f"              {fingerprint}")


def _print_needs(anchor: AnchorView) -> None:
    for need in anchor.needed_by:
        echo(f"                {need.subject}: {need.detail}")
    if not anchor.needed_by and not anchor.may_retire:
        echo("                everyone: it is the only one")
