"""
`podlock check`: what is wrong with a running agent, and with the objects it goes by;
`podlock check --pre`: what would keep one from working here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import PATH, as_json, read, with_config
from agent.cli.output import echo, echo_json

if TYPE_CHECKING:
    from agent.findings import Finding


@click.command()
@with_config
@click.option("--pre", is_flag=True, help="Before an agent starts: will it work here?")
@click.option(
    "--socket", type=PATH, help="The agent's status socket.  [default: as set]"
)
@as_json
def check(
    file: Path | None,
    settings: tuple[str, ...],
    pre: bool,
    socket: Path | None,
    as_json: bool,
) -> None:
    """
    What keeps the agent from being ready, and what in the objects it cannot read,
    cannot enforce or takes otherwise than it was meant.

    Policies that are valid and have no effect are warnings, which do not count.

    With --pre what would keep an agent from working, and what to do about it.

    Exit code 1 where there is anything.
    """
    if pre and socket:
        raise click.UsageError("--socket is a running agent's: not with --pre")
    well = (
        _before(file, settings, as_json=as_json)
        if pre
        else _running(file, settings, socket, as_json=as_json)
    )
    if not well:
        raise SystemExit(1)


def _running(
    file: Path | None,
    settings: tuple[str, ...],
    socket: Path | None,
    *,
    as_json: bool,
) -> bool:
    from agent.cli import left

    path, config = left.agent_at(socket, file, settings)
    status = left.fetch(path, "status", {}, config)
    found, more = list(findings(status)), list(notes(status))
    warnings = status.get("warnings", [])
    if as_json:
        _print_json(
            {"well": not found, "findings": found, "notes": more, "warnings": warnings}
        )
        return not found
    for note in more:
        echo(f"note: {note}")
    for each in warnings:
        echo(f"warning: {_line(each)}")
    for each in found:
        echo(_line(each))
    count = f", {len(warnings)} warnings" if warnings else ""
    echo((f"{len(found)} findings" if found else "nothing is wrong") + count)
    return not found


def _line(each: dict[str, str | None]) -> str:
    where = ": ".join(filter(None, (each["object"] or "agent", each["field"])))
    return f"{where}: {each['message']}"


def findings(status: dict[str, Any]) -> Iterator[dict[str, str | None]]:
    """Object, field and message each; no object where it is about the agent."""
    problems = {problem["message"] for problem in status["problems"]}
    for reason in status["not_ready_because"]:
        if reason not in problems:
            yield {"object": "", "field": "", "message": f"not ready: {reason}"}
    for fault in status["redirect"]["faults"]:
        yield {"object": fault["object"], "field": "", "message": fault["message"]}
    yield from _away(status["dependencies"])
    if reason := status["same_node"]["reason"]:
        yield {"object": "", "field": "", "message": f"same_node: tunnel: {reason}"}
    yield from status["problems"]


def _away(dependencies: list[dict[str, Any]]) -> Iterator[dict[str, str | None]]:
    for each in dependencies:
        if each["state"] == "unreachable":
            last = each["last_contact"] or "never"
            text = f"unreachable since {each['since']} (last contact: {last})"
            name = f"{each['kind']} {each['name']}"
            yield {"object": name, "field": "", "message": f"{text}: {each['why']}"}


def notes(status: dict[str, Any]) -> Iterator[str]:
    """What is no fault now, and explains what is or was seen."""
    for each in status["redirect"]["interruptions"]:
        times = f"from {each['since']} to {each['until']}"
        yield f"the redirect was missing {times}, and was repaired: {each['faults']}"
    for kind in status["objects_from"]["not_installed"]:
        yield f"{kind}: the API server does not know this kind, so there are none of it"


def _before(file: Path | None, settings: tuple[str, ...], *, as_json: bool) -> bool:
    config = read(file, settings)
    from agent import app

    found = app.check_before(config)
    well = all(finding.is_well for finding in found)
    if as_json:
        _print_json({"well": well, "findings": [_as_document(each) for each in found]})
    else:
        _print_findings(found)
    return well


def _print_findings(found: Sequence[Finding]) -> None:
    for each in found:
        mark = "ok " if each.is_well else "BAD"
        echo(f"{mark} {each.subject}: {each.message}")
        if each.advice:
            echo(f"    {each.advice}")


def _as_document(finding: Finding) -> dict[str, object]:
    return {
        "subject": finding.subject,
        "well": finding.is_well,
        "message": finding.message,
        "advice": finding.advice,
    }


def _print_json(document: object) -> None:
    echo_json(document)
