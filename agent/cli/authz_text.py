"""
What `podlock authz` says: each answer as a document, and the document in words.

Keys are always present; what is unknown is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from agent.authz.check import Answer
from agent.authz.compare import Comparison, Difference
from agent.authz.coverage import Coverage
from agent.authz.judgement import Verdict
from agent.authz.reach import Admitted, Reach
from agent.authz.seen import Flow, NodeFlows
from agent.authz.suggest import Refused, Suggestion
from agent.status.documents import iso, iso_or_null
from agent.status.tables import plain

Document = dict[str, Any]

_MAX_UNSEEN = 20


def check(answers: Sequence[Answer]) -> Document:
    """`allowed`: whether all of `answers` are."""
    return {
        "allowed": all(answer.verdict.allowed for answer in answers),
        "answers": [
            {
                "from": {
                    "pod": each.client.pod,
                    "identity": _text(each.client.identity),
                    "address": _text(each.address),
                },
                "to": {
                    "pod": each.server.pod.key,
                    "port": each.server.port,
                },
                **_verdict(each.verdict),
            }
            for each in answers
        ],
    }


def check_lines(document: Document) -> Iterator[str]:
    """One answer after the other: the verdict, and why on the next line."""
    for each in document["answers"]:
        client = each["from"]
        who = [client["pod"], client["identity"] or "plaintext", client["address"]]
        named = " ".join(plain(part) for part in who if part)
        server = f"{each['to']['pod']}:{each['to']['port']}"
        yield f"{each['verdict']:5}  {named} -> {server}"
        yield f"       {plain(each['reason'])}"
        if each["field"]:
            yield f"       {plain(each['object'])}: {plain(each['field'])}"


def who_can(found: Iterable[Reach]) -> Document:
    """One entry for each pod that was asked about."""
    return {
        "servers": [
            {
                "pod": each.server.pod.key,
                "port": each.server.port,
                "identities": [_admitted(one) for one in each.identities],
                "plaintext": [_admitted(one) for one in each.networks],
                "excluded": list(each.excluded),
            }
            for each in found
        ]
    }


def who_can_lines(document: Document) -> Iterator[str]:
    """Identities with their pods, then networks."""
    for each in document["servers"]:
        yield f"{each['pod']}:{each['port']} can be opened by"
        for one in each["identities"]:
            yield from _admitted_lines(one)
        for one in each["plaintext"]:
            yield from _admitted_lines({**one, "who": f"plaintext from {one['who']}"})
        for one in each["excluded"]:
            yield f"  but not {plain(one)}"
        if not each["identities"] and not each["plaintext"]:
            yield "  nobody"


def diff(
    comparison: Comparison, nodes: Sequence[NodeFlows], coverage: Coverage
) -> Document:
    """
    `changes`: whether anything starts or stops to be refused; `enough`: whether there
    were connections by which to tell; `unseen`: pods in scope without any.
    """
    decided = [each for each in comparison.differences if each.refuses is not None]
    return {
        "changes": bool(decided),
        "enough": coverage.enough,
        "nodes": [
            {
                "node": each.node,
                "since": iso(each.since),
                "until": iso_or_null(each.until),
                "flows": len(each.flows),
                "dropped": each.dropped,
            }
            for each in nodes
        ],
        "unseen": [
            {"pod": each.pod, "node": each.node or None, "node_asked": each.watched}
            for each in coverage.unseen
        ],
        "same": comparison.same,
        "differences": [_difference(each) for each in comparison.differences],
        "gone": [_flow(flow) for flow in comparison.gone],
    }


def diff_lines(document: Document) -> Iterator[str]:
    """What would be refused first, for that is what one came for."""
    order = sorted(
        document["differences"], key=lambda each: str(each["after"]["verdict"])
    )
    for each in order:
        before, after = each["before"], each["after"]
        change = _CHANGES[before["verdict"], after["verdict"]]
        seen = f"{each['connections']} seen, last {each['last']}"
        yield f"{change}: {plain(each['client'])} -> {_server(each)} ({seen})"
        yield f"    now:  {plain(before['reason'])}"
        yield f"    then: {plain(after['reason'])}"
    for flow in document["gone"]:
        yield f"not judged: {plain(flow['client'])} -> {_server(flow)}: the pod is gone"
    yield from _unseen_lines(document["unseen"])
    for node in document["nodes"]:
        yield _period(node)
    verdicts = [(e["before"]["verdict"], e["after"]["verdict"]) for e in order]
    yield (
        f"{len(order) + document['same']} flows judged: "
        f"{sum(after == 'deny' for _, after in verdicts)} would start to be refused, "
        f"{sum(before == 'deny' for before, _ in verdicts)} would stop"
    )
    if not document["enough"]:
        away = any(not each["node_asked"] for each in document["unseen"])
        why = "their nodes were not all asked" if away else "nor to any other"
        count = len(document["unseen"])
        yield (
            f"not enough data: the policy of {count} pods changes to which no "
            f"connection was seen, and {why}"
        )


def _unseen_lines(unseen: Sequence[Document]) -> Iterator[str]:
    """The first pods without flows, and how many more there are."""
    for each in unseen[:_MAX_UNSEEN]:
        node = plain(each["node"]) if each["node"] else "no node"
        why = "" if each["node_asked"] else ", which was not asked (--seen FILE)"
        yield f"no connection seen: {plain(each['pod'])} on {node}{why}"
    if len(unseen) > _MAX_UNSEEN:
        yield f"no connection seen: {len(unseen) - _MAX_UNSEEN} more pods (--json)"


def _period(node: Document) -> str:
    until = f" until {node['until']}" if node["until"] else ""
    lost = f", {node['dropped']} older ones dropped" if node["dropped"] else ""
    return (
        f"based on node {plain(node['node'])}: {node['flows']} flows since "
        f"{node['since']}{until}{lost}"
    )


_CHANGES = {
    ("allow", "deny"): "would be refused",
    ("audit", "deny"): "would be refused",
    ("deny", "allow"): "would be allowed",
    ("deny", "audit"): "would be allowed, and audited",
    ("allow", "audit"): "would be audited",
    ("audit", "allow"): "would be audited no more",
}


class _Dumper(yaml.SafeDumper):
    """YAML in which equal values are written out each time, never as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def suggest(found: Suggestion) -> Document:
    """`refused`: what is left out since it was refused, or is refused now."""
    return {
        "notes": list(found.notes),
        "refused": [_refused(each) for each in found.refused],
        "manifests": list(found.manifests),
    }


def suggest_lines(document: Document) -> Iterator[str]:
    """Manifests, with notes and what is left out as comments before them."""
    for note in document["notes"]:
        yield f"# {plain(note)}"
    for each in document["refused"]:
        yield (
            f"# left out: {plain(each['client'])} -> {_server(each)} (refused "
            f"{each['refused']}, allowed {each['allowed']}, last {each['last']}): "
            f"{plain(each['reason'])}"
        )
    if document["refused"]:
        yield "# --include-refused allows what is left out"
    if document["manifests"]:
        yield yaml.dump_all(
            document["manifests"],
            Dumper=_Dumper,
            sort_keys=False,
            explicit_start=True,
        ).rstrip()


def _refused(each: Refused) -> Document:
    tally = each.tally
    return {
        **_flow(each.flow),
        "refused": tally.refused,
        "allowed": tally.allowed,
        "last": iso(tally.last),
        "reason": each.reason,
    }


def _verdict(verdict: Verdict) -> Document:
    word = "deny" if not verdict.allowed else "audit" if verdict.audit else "allow"
    return {
        "verdict": word,
        "rule": verdict.rule or None,
        "object": verdict.object or None,
        "field": verdict.field or None,
        "reason": verdict.reason,
    }


def _admitted(one: Admitted) -> Document:
    return {
        "who": one.who,
        "rule": one.rule or None,
        "pods": list(one.pods),
        "audit": one.audit,
        "partly": one.partly,
    }


def _admitted_lines(one: Document) -> Iterator[str]:
    some = ", from some addresses only" if one["partly"] else ""
    only = ", would be denied" if one["audit"] else ""
    pods = f" ({', '.join(map(plain, one['pods']))})" if one["pods"] else ""
    yield f"  {plain(one['who'])}{pods}: {plain(one['rule'])}{only}{some}"


def _difference(each: Difference) -> Document:
    tally = each.tally
    return {
        **_flow(each.flow),
        "connections": tally.allowed + tally.refused,
        "last": iso(tally.last),
        "before": _verdict(each.before),
        "after": _verdict(each.after),
    }


def _flow(flow: Flow) -> Document:
    return {
        "client": flow.client,
        "destination": flow.destination,
        "port": flow.port,
        "path": flow.path,
    }


def _server(flow: Document) -> str:
    return f"{plain(flow['destination'])}:{flow['port']}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)
