"""
The document about connections that were seen: written by an agent, read by `authz`.

Documents of several nodes read together are what a cluster has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from agent.addresses import InvalidAddress, parse_ip
from agent.authz.seen import Flow, NodeFlows, Seen, Tally
from agent.errors import InputError
from agent.identity.spiffe import InvalidSpiffeId, SpiffeId
from agent.status import documents
from agent.status.documents import SeenFlow, iso, iso_or_null


class InvalidSeen(InputError):
    """A document that is not what `podlock seen --json` prints."""


def document(seen: Seen, node: str, now: float | None = None) -> documents.Seen:
    """All flows of `node` until `now`; see `documents.Seen`."""
    return {
        "node": node,
        "since": iso(seen.since),
        "until": iso_or_null(now),
        "flows": [_flow(flow, tally) for flow, tally in seen.flows()],
        "dropped": seen.dropped,
    }


def audited(flows: Iterable[tuple[Flow, Tally]]) -> list[documents.Audited]:
    """What audit let in, by pod, port and the rule that would deny it."""
    found: dict[tuple[str, int, str], documents.Audited] = {}
    for flow, tally in flows:
        if not tally.audited or tally.would_deny is None:
            continue
        key = (flow.destination, flow.port, tally.would_deny)
        entry = found.setdefault(
            key,
            {
                "workload": flow.destination,
                "port": flow.port,
                "rule": tally.would_deny,
                "connections": 0,
                "last": iso(tally.last),
            },
        )
        entry["connections"] += tally.audited
        entry["last"] = max(entry["last"], iso(tally.last))
    return [found[key] for key in sorted(found)]


def read(told: Mapping[str, Any], origin: str) -> NodeFlows:
    """
    The node and the flows of a document; `origin` is where it came from.

    One of an earlier version has no `until`. Raises: InvalidSeen.
    """
    try:
        seen = msgspec.convert({"until": None, **told}, documents.Seen)
        until = seen["until"]
        return NodeFlows(
            seen["node"],
            _seconds(seen["since"]),
            None if until is None else _seconds(until),
            tuple(_read(each) for each in seen["flows"]),
            seen["dropped"],
        )
    except (msgspec.ValidationError, InvalidAddress, InvalidSpiffeId) as error:
        text = f"{origin}: not what `podlock seen --json` prints: {error}"
        raise InvalidSeen(text) from error


def _flow(flow: Flow, tally: Tally) -> SeenFlow:
    return {
        "client": flow.client,
        "identity": flow.meshed,
        "sources": [
            {"address": ip, "workload": name} for ip, name in tally.sources.items()
        ],
        "destination": flow.destination,
        "port": flow.port,
        "path": flow.path,
        "allowed": tally.allowed,
        "audited": tally.audited,
        "refused": tally.refused,
        "rule": tally.rule,
        "first": iso(tally.first),
        "last": iso(tally.last),
    }


def _read(told: SeenFlow) -> tuple[Flow, Tally]:
    if told["identity"]:
        SpiffeId.parse(told["client"])
    else:
        parse_ip(told["client"])
    flow = Flow(
        told["client"],
        told["identity"],
        told["destination"],
        told["port"],
        told["path"],
    )
    tally = Tally(
        first=_seconds(told["first"]),
        last=_seconds(told["last"]),
        allowed=told["allowed"],
        audited=told["audited"],
        refused=told["refused"],
        rule=told["rule"],
        sources={
            str(parse_ip(each["address"])): each["workload"] for each in told["sources"]
        },
    )
    return flow, tally


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise msgspec.ValidationError(f"{text!r} is not a time") from error
