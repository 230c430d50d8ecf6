"""Documents for people: what matters first. `now` is Unix seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.status.certificates import certificates
from agent.status.documents import Name
from agent.status.tables import (
    cell,
    lasted,
    or_none,
    plain,
    short,
    size,
    span,
    table,
    when,
)

Document = Mapping[str, Any]


def render(name: Name, document: Document, now: float) -> RenderableType:
    """The named document as rich text and tables."""
    renderers: dict[Name, Callable[[Document, float], RenderableType]] = {
        "status": _status,
        "workloads": _workloads,
        "certificates": certificates,
        "policies": _policies,
        "connections": _connections,
        "seen": _seen,
        "events": _events,
        "objects": _objects,
    }
    shown = renderers[name](document, now)
    filtered = document.get("filtered")
    if filtered is None:
        return shown
    footer = f"{filtered['shown']} of {filtered['of']} shown"
    return Group(shown, Text(footer, style="dim"))


def _status(document: Document, now: float) -> RenderableType:
    state = "ready" if document["ready"] else "not ready"
    facts = [
        ("podlock", document["version"]),
        ("node", document["node"]),
        ("state", state),
        *(("because", reason) for reason in document["not_ready_because"]),
        ("running", f"{span(document['uptime_seconds'])}, pid {document['pid']}"),
        ("trust domain", document["trust_domain"]),
        ("identity", document["identity"]["mode"]),
        ("trust", f"version {plain(document['identity']['trust_version'])}"),
        *(("anchor", anchor) for anchor in document["identity"]["bundle"]),
        ("redirect", _redirect(document["redirect"])),
        *(("kernel", text) for text in _fallbacks(document["redirect"])),
        ("objects", _objects_from(document["objects_from"])),
        *((each["kind"], _dependency(each, now)) for each in document["dependencies"]),
        ("same node", _same_node(document["same_node"])),
        *((plain(key), count) for key, count in document["counts"].items()),
    ]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for key, value in facts:
        grid.add_row(Text(key, style="bold"), cell(value))
    workers = table(
        ("worker", "pid", "started", "restarts", "connections"),
        (
            (
                each["index"],
                each["pid"],
                when(each["started"], now),
                each["restarts"],
                each["connections"],
            )
            for each in document["workers"]
        ),
    )
    return Group(
        grid,
        Text(),
        workers,
        *_audited(document["audited"], now),
        *_problems(document["problems"], "problem in"),
        *_problems(document.get("warnings", []), "without effect"),
    )


def _dependency(each: Mapping[str, Any], now: float) -> str:
    contact = each["last_contact"]
    last = f"last contact {when(contact, now)}" if contact else "no contact yet"
    if each["state"] != "unreachable":
        return f"{each['name']}, {last}"
    since = f"unreachable since {when(each['since'], now)}"
    return f"{each['name']}: {since} ({last}): {each['why']}"


def _audited(audited: list[Mapping[str, Any]], now: float) -> list[RenderableType]:
    if not audited:
        return []
    rows = (
        (
            f"{each['workload']}:{each['port']}",
            each["connections"],
            when(each["last"], now),
            each["rule"],
        )
        for each in audited
    )
    columns = ("audited", "connections", "last", "would be denied by")
    return [Text(), table(columns, rows)]


def _redirect(redirect: Mapping[str, Any]) -> str:
    loaded = "loaded" if redirect["loaded"] else "not loaded"
    where = f"{redirect['pins']} on {plain(redirect['cgroup'])}"
    return f"{loaded}, verified at {plain(redirect['verified_at'])}, {where}"


def _fallbacks(redirect: Mapping[str, Any]) -> Iterator[str]:
    """What this kernel has not, and what is done instead."""
    for feature in redirect["features"]:
        if feature["level"] != "native":
            yield f"without {feature['name']}: {feature['reason']}"


def _objects_from(told: Mapping[str, Any]) -> str:
    kind = "the API server" if told["source"] == "api-server" else "manifests in"
    return f"{kind} {told['place']}"


def _same_node(same_node: Mapping[str, Any]) -> str:
    if same_node["mode"] == "direct":
        text = f"direct, pairs: {same_node['pairs']}"
        lost = same_node["unrecorded"]
        return f"{text}, connections not recorded: {lost}" if lost else text
    reason = same_node["reason"]
    return f"tunnel, not direct: {plain(reason)}" if reason else "tunnel"


def _problems(problems: list[Mapping[str, Any]], heading: str) -> list[RenderableType]:
    if not problems:
        return []
    rows = ((each["object"], each["field"], each["message"]) for each in problems)
    return [Text(), table((heading, "field", "message"), rows)]


def _workloads(document: Document, _now: float) -> RenderableType:
    rows = (
        (
            f"{each['namespace']}/{each['name']}",
            each["state"],
            each["node"],
            ", ".join(each["addresses"]),
            each["identity"],
            each["reason"],
        )
        for each in document["workloads"]
    )
    columns = ("workload", "state", "node", "addresses", "identity", "reason")
    counts = ", ".join(f"{n} {state}" for state, n in document["counts"].items())
    listed = or_none(table(columns, rows), "workloads")
    return Group(listed, Text(), Text(counts, style="dim"))


def _policies(document: Document, _now: float) -> RenderableType:
    columns = ("workload", "port", "server", "who may")
    rows = _policy_rows(document["policies"])
    return or_none(table(columns, rows), "policies")


def _policy_rows(policies: list[Mapping[str, Any]]) -> Iterable[tuple[object, ...]]:
    for each in policies:
        default = f"{each['default']} (from {each['default_from']})"
        for port in each["ports"]:
            yield each["workload"], port["port"], port["server"], port["access_policy"]
            for rule in port["authorizations"]:
                who = ", ".join([*rule["identities"], *rule["networks"]])
                yield "", "", "", f"{rule['name']}: {who or 'nobody'}"
        for what, who in _istio_rules(each["istio"]):
            yield each["workload"], what, None, who
        rest = "other" if each["ports"] else "any"
        yield each["workload"], rest, None, default


def _istio_rules(rules: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
    if rules is None:
        return
    for port, mode in rules["mutual_tls"].items():
        yield port or "any", f"mutual TLS {mode}"
    for key, effect in (
        ("denies", "refuses by rule"),
        ("allows", "allows by rule"),
        ("dry_run", "judges, dry run"),
    ):
        for name in rules[key]:
            yield "any", f"{name} {effect}"


def _connections(document: Document, now: float) -> RenderableType:
    # As every list here: the latest is the last, next to the prompt.
    in_order = [*document["recent"], *document["open"]]
    columns = (
        *("when", "for", "outcome", "from", "to", "via"),
        *("peer", "anchor", "sent", "received", "reason"),
    )
    rows = (_connection(each, now) for each in in_order)
    counts = ", ".join(f"{n} {plain(key)}" for key, n in document["counts"].items())
    listed = or_none(table(columns, rows), "connections")
    return Group(listed, Text(), Text(counts, style="dim"))


def _connection(each: Mapping[str, Any], now: float) -> tuple[object, ...]:
    return (
        when(each["closed"] or each["opened"], now),
        lasted(each["opened"], each["closed"], now),
        ending(each),
        _end(each["source"]),
        _end(each["destination"]),
        f"{each['direction']} {each['path']}",
        each["peer"] and each["peer"]["identity"],
        short(each["peer"] and each["peer"]["anchor"]),
        size(each["sent_bytes"]),
        size(each["received_bytes"]),
        _reason(each),
    )


def ending(each: Mapping[str, Any]) -> str:
    """Refused after it had opened: a change of policy or of trust ended it."""
    if each["outcome"] == "refused" and each["opened"]:
        return "revoked"
    return str(each["outcome"])


def _end(end: Mapping[str, Any]) -> str:
    name = end["workload"] or end["service"]
    return f"{name} ({end['address']})" if name else str(end["address"])


def _reason(connection: Mapping[str, Any]) -> str | None:
    """Why it ended, and by which rule; an open one tells the rule that let it in."""
    reason, rule = connection["reason"], connection["rule"]
    if connection["audit"] and not reason:
        return f"would be denied by {connection['audit']}"
    if reason and rule:
        return f"{reason} [{rule}]"
    return reason or (rule and f"[{rule}]")


def _seen(document: Document, now: float) -> RenderableType:
    rows = (
        (
            when(each["last"], now),
            each["client"],
            f"{each['destination']}:{each['port']}",
            each["path"],
            each["allowed"],
            each["audited"],
            each["refused"],
            each["rule"],
        )
        for each in sorted(document["flows"], key=lambda each: str(each["last"]))
    )
    columns = (
        *("last", "client", "to", "path", "allowed", "of them audited"),
        *("refused", "rule of the last"),
    )
    return or_none(table(columns, rows), "connections seen")


def _objects(document: Document, _now: float) -> RenderableType:
    rows = (
        (
            each["kind"],
            each["metadata"].get("namespace"),
            each["metadata"]["name"],
        )
        for each in document["manifests"]
    )
    return or_none(table(("kind", "namespace", "name"), rows), "objects")


def _events(document: Document, now: float) -> RenderableType:
    rows = (
        (when(each["time"], now), each["kind"], each["object"], each["message"])
        for each in document["events"]
    )
    listed = or_none(table(("when", "kind", "object", "message"), rows), "events")
    if not document["dropped"]:
        return listed
    older = f"{document['dropped']} older ones are no longer kept"
    return Group(listed, Text(older, style="dim"))
