"""
`podlock authz check`, `who-can`, `diff`, `suggest`: who may talk to whom.

Of a running agent, or of a directory of manifests with no agent anywhere. Exit codes:
0 allowed (diff: nothing changes), 1 denied (diff: something changes), 2 wrong usage or
input, 3 (diff) not enough data. What cannot be answered is never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agent.addresses import InvalidAddress, parse_ip
from agent.cli.group import USAGE, fail
from agent.cli.options import PATH, as_json, read, with_config
from agent.cli.output import echo, echo_block, echo_json
from agent.errors import PodlockError

if TYPE_CHECKING:
    from agent.addresses import IPAddress
    from agent.authz.seen import Flow, NodeFlows, Tally
    from agent.authz.suggest import Form
    from agent.authz.survey import Survey

_Command = TypeVar("_Command", bound=Callable[..., Any])

DENIED: Final = 1
CHANGES: Final = 1
NOT_ENOUGH_DATA: Final = 3


class AuthzGroup(click.Group):
    """Its 1 is an answer, so what goes wrong is 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PodlockError as error:
            fail(USAGE, *str(error).splitlines())


@click.group(cls=AuthzGroup)
def authz() -> None:
    """
    Who may talk to whom: ask before somebody is refused.

    Of the agent on this node, or, with --manifests, of a directory in which no agent
    needs to run. Exit codes: 0 allowed or no change, 1 denied or some change, 2 wrong
    usage or input, 3 (diff) not enough data for an answer.
    """


def _with_source(command: _Command) -> _Command:
    """Adds what a survey is made from; see `_survey`."""
    socket = click.option(
        "--socket", type=PATH, help="The agent's status socket.  [default: as set]"
    )
    manifests = click.option(
        "--manifests",
        type=PATH,
        metavar="DIR",
        help="Ask these manifests instead of an agent. Deployments and the like stand "
        "for a pod that has their name.",
    )
    return with_config(socket(manifests(as_json(command))))


_PORT: Final = click.IntRange(1, 65535)
_SEEN: Final = click.option(
    "--seen",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="What `podlock seen --json` printed, instead of asking; once for each node.",
)


@authz.command(
    "check", short_help="May this client connect there, and which object says so."
)
@_with_source
@click.option(
    "--from",
    "source",
    required=True,
    metavar="WHO",
    help="A pod (web, shop/web), an identity (spiffe://..., or in Linkerd's DNS form) "
    "or an address.",
)
@click.option(
    "--to",
    required=True,
    metavar="WHOM",
    help="A pod, a Service, or an address of either.",
)
@click.option("--port", type=_PORT, required=True, help="Where it wants to connect to.")
@click.option("--address", metavar="IP", help="The address that WHO comes from.")
@click.option("--plaintext", is_flag=True, help="WHO shows no certificate.")
def check_(
    file: Path | None,
    settings: tuple[str, ...],
    socket: Path | None,
    manifests: Path | None,
    as_json: bool,
    source: str,
    to: str,
    port: int,
    address: str | None,
    plaintext: bool,
) -> int:
    """
    May WHO connect to WHOM? Says allow or deny, and which object decided.

    Exits 0 if every pair that the names stand for is allowed, 1 if one is denied.
    """
    from agent.authz import check, party
    from agent.cli import authz_text

    survey = _survey(file, settings, socket, manifests)
    clients = party.clients(
        source, survey, address=_address(address), plaintext=plaintext
    )
    answers = [
        answer
        for server in party.servers(to, port, survey)
        for client in clients
        for answer in check.check(client, server, survey)
    ]
    document = authz_text.check(answers)
    _print(document, authz_text.check_lines(document), as_json)
    return 0 if document["allowed"] else DENIED


@authz.command("who-can", short_help="Who can connect there.")
@_with_source
@click.option(
    "--to", required=True, metavar="WHOM", help="A pod, a Service, an address."
)
@click.option("--port", type=_PORT, required=True, help="The port that is asked about.")
def who_can_(
    file: Path | None,
    settings: tuple[str, ...],
    socket: Path | None,
    manifests: Path | None,
    as_json: bool,
    to: str,
    port: int,
) -> int:
    """List who can connect to WHOM: identities, pods, and networks in plaintext."""
    from agent.authz import party, reach
    from agent.cli import authz_text

    survey = _survey(file, settings, socket, manifests)
    found = [reach.who_can(each, survey) for each in party.servers(to, port, survey)]
    document = authz_text.who_can(found)
    _print(document, authz_text.who_can_lines(document), as_json)
    return 0


@authz.command(
    "diff", short_help="What a proposal would change for connections that were seen."
)
@_with_source
@_SEEN
@click.option("--prune", is_flag=True, help="Policies that are not in DIR are gone.")
@click.argument("directory", type=PATH, metavar="DIR")
def diff_(
    file: Path | None,
    settings: tuple[str, ...],
    socket: Path | None,
    manifests: Path | None,
    as_json: bool,
    seen: tuple[Path, ...],
    prune: bool,
    directory: Path,
) -> int:
    """
    Which connections of late would the manifests in DIR start or stop refusing?

    DIR is taken as `kubectl apply` would: one of the same kind and name takes the
    other's place. The answer rests on the connections that the asked nodes have seen
    since their agents started; nodes and periods are printed.

    Exit codes: 0 no connection starts or stops to be refused; 1 some do; 2 wrong usage
    or input; 3 not enough data (`enough` is false in --json): no change was found,
    but no connection was seen to any pod whose policy changes, or the node of such a
    pod was not asked.
    """
    from agent.authz import compare, coverage, overlay
    from agent.authz.survey import Survey
    from agent.cli import authz_text
    from agent.kube import offline

    now = _survey(file, settings, socket, manifests)
    proposed = offline.read_directory(directory)
    then = Survey.of(overlay.overlaid(now.objects, proposed, prune=prune), now.setting)
    nodes = _seen(file, settings, socket, seen)
    document = authz_text.diff(
        compare.compare(_flows(nodes), now, then),
        nodes,
        coverage.coverage(nodes, now, then),
    )
    _warn(problem for problem in then.problems if problem not in now.problems)
    _print(document, authz_text.diff_lines(document), as_json)
    if document["changes"]:
        return CHANGES
    return 0 if document["enough"] else NOT_ENOUGH_DATA


@authz.command("suggest", short_help="Policies that allow exactly what has been seen.")
@_with_source
@_SEEN
@click.option(
    "--format",
    "form",
    type=click.Choice(("linkerd", "istio")),
    default="linkerd",
    show_default=True,
    help="Whose kinds to write.",
)
@click.option(
    "--include-refused",
    is_flag=True,
    help="Also allow what was refused, or what the present policies refuse.",
)
@click.option(
    "--include-ephemeral",
    is_flag=True,
    help="Also write each of many high ports that one server used for few clients.",
)
def suggest_(
    file: Path | None,
    settings: tuple[str, ...],
    socket: Path | None,
    manifests: Path | None,
    as_json: bool,
    seen: tuple[Path, ...],
    form: Form,
    include_refused: bool,
    include_ephemeral: bool,
) -> int:
    """
    Write the policies that allow exactly what has been seen, and nothing else.

    Prints manifests; what to know about them is in the comments at the top. Left out,
    and listed there: connections that were refused or that the present policies
    refuse, and ports that look ephemeral, such as those of passive FTP.
    """
    from agent.authz import suggest
    from agent.cli import authz_text

    survey = _survey(file, settings, socket, manifests)
    nodes = _seen(file, settings, socket, seen)
    found = suggest.suggest(
        _flows(nodes),
        survey,
        [each.node for each in nodes],
        form,
        include_refused=include_refused,
        include_ephemeral=include_ephemeral,
    )
    document = authz_text.suggest(found)
    _print(document, authz_text.suggest_lines(document), as_json)
    return 0


# Where answers come from.


def _survey(
    file: Path | None,
    settings: tuple[str, ...],
    socket: Path | None,
    manifests: Path | None,
) -> Survey:
    """What is in force at the agent, or what the manifests say."""
    from agent.authz.survey import Survey
    from agent.cli.authz_source import live, setting_of
    from agent.kube import offline

    config = read(file, settings)
    if manifests is None:
        return live(socket or config.status.socket)
    if socket is not None:
        raise click.UsageError("expected one of --socket and --manifests")
    objects = offline.read_directory(manifests)
    survey = Survey.of(objects, setting_of(config))
    _warn(survey.problems)
    return survey


def _seen(
    file: Path | None,
    settings: tuple[str, ...],
    socket: Path | None,
    seen: Sequence[Path],
) -> list[NodeFlows]:
    """What was seen on each node: read from files, or from the agent."""
    from agent.cli.authz_source import seen_by, seen_in

    if seen:
        return [seen_in(path) for path in seen]
    return [seen_by(socket or read(file, settings).status.socket)]


def _flows(nodes: Sequence[NodeFlows]) -> list[tuple[Flow, Tally]]:
    return [flow for each in nodes for flow in each.flows]


def _address(text: str | None) -> IPAddress | None:
    try:
        return None if text is None else parse_ip(text)
    except InvalidAddress as error:
        raise click.UsageError(f"--address: {error}") from error


def _warn(problems: Any) -> None:
    for problem in problems:
        echo(f"podlock: warning: {problem}", err=True)


def _print(document: Any, lines: Any, as_json: bool) -> None:
    if as_json:
        echo_json(document)
        return
    for line in lines:
        echo_block(line)
