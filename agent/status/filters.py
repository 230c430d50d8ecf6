"""
What a document's list can be reduced to, and what a name in a question stands for.

A name may be short: `web` is `shop/web`, and the identity of the ServiceAccount `web`;
a short name of several is all of them. One that nothing has keeps nothing, and is
reported with the nearest that there is, so that a mistyped name is no empty answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from agent.addresses import InvalidAddress, parse_ip
from agent.identity.rotation import CertificateState
from agent.policy.names import dns_name
from agent.spelling import did_you_mean
from agent.status.documents import Name
from agent.status.events import KINDS
from agent.workload.connection import Direction, Ending, Path

Item = Mapping[str, Any]
NamesOf = Callable[[Item], Iterable[str | None]]
Catalogue = Literal["workload", "namespace", "identity"]

_SPIFFE: Final = "spiffe://"


@dataclass(frozen=True, slots=True)
class Filter:
    """
    One thing that items can be chosen by, and what it is called in an error.

    `values` are all that it takes, where there are any. `known` are names that exist
    even if no item has them, as are those of the `catalogue`.
    """

    names: NamesOf
    what: str
    values: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    catalogue: Catalogue | None = None


def _field(
    name: str,
    *values: str,
    what: str = "",
    known: tuple[str, ...] = (),
    catalogue: Catalogue | None = None,
) -> Filter:
    return Filter(lambda item: (item[name],), what or name, values, known, catalogue)


def _either_end(name: Catalogue) -> Filter:
    def names(item: Item) -> Iterable[str | None]:
        return item["source"][name], item["destination"][name]

    return Filter(names, name, catalogue=name)


def qualified(item: Item) -> Iterable[str]:
    """`namespace/name` of a row about a workload."""
    return (f"{item['namespace']}/{item['name']}",)


def _manifest_name(item: Item) -> Iterable[str]:
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return (f"{namespace}/{metadata['name']}" if namespace else metadata["name"],)


def _manifest_namespace(item: Item) -> Iterable[str | None]:
    return (item["metadata"].get("namespace"),)


OBJECT_KINDS: Final = (
    *("Namespace", "Pod", "Service", "EndpointSlice"),
    *("Server", "ServerAuthorization", "AuthorizationPolicy"),
    *("MeshTLSAuthentication", "NetworkAuthentication", "PeerAuthentication"),
)
_WORKLOAD_STATES: Final = ("captured", "waiting", "refused", "remote", "outside")

FILTERS: Final[dict[Name, dict[str, Filter]]] = {
    "status": {},
    "workloads": {
        "workload": Filter(qualified, "workload"),
        "namespace": _field("namespace"),
        "identity": _field("identity"),
        "state": _field("state", *_WORKLOAD_STATES),
        "node": _field("node"),
    },
    "certificates": {
        "identity": _field("identity", catalogue="identity"),
        "state": _field(
            "state", known=tuple(state.value for state in CertificateState)
        ),
    },
    "policies": {"workload": _field("workload", catalogue="workload")},
    "connections": {
        "workload": _either_end("workload"),
        "identity": _either_end("identity"),
        "outcome": _field("outcome", "open", *get_args(Ending)),
        "direction": _field("direction", *get_args(Direction)),
        "path": _field("path", *get_args(Path)),
    },
    "seen": {
        "client": _field("client", catalogue="identity"),
        "workload": _field("destination", what="workload", catalogue="workload"),
        "path": _field("path", *get_args(Path)),
    },
    "events": {
        "kind": _field("kind", what="kind of event", known=KINDS),
        "object": _field("object", catalogue="workload"),
    },
    "objects": {
        "kind": _field("kind", known=OBJECT_KINDS),
        "namespace": Filter(_manifest_namespace, "namespace", catalogue="namespace"),
        "name": Filter(_manifest_name, "object"),
    },
}

POSITIONAL: Final[dict[Name, str]] = {
    "workloads": "workload",
    "certificates": "identity",
    "policies": "workload",
    "connections": "workload",
    "seen": "workload",
    "events": "object",
    "objects": "name",
}
"""The filter that the words after a command are."""


def catalogue(workloads: Iterable[Item]) -> dict[Catalogue, set[str]]:
    """The names that workloads have, from their document's rows."""
    found: dict[Catalogue, set[str]] = {
        "workload": set(),
        "namespace": set(),
        "identity": set(),
    }
    for each in workloads:
        found["workload"].update(qualified(each))
        found["namespace"].add(each["namespace"])
        if each["identity"] is not None:
            found["identity"].add(each["identity"])
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one filter keeps; `unknown`: a sentence for each name that nothing has."""

    names: NamesOf
    accepted: Collection[str]
    unknown: tuple[str, ...]

    def keeps(self, item: Item) -> bool:
        """Whether the item has one of the names."""
        return any(name in self.accepted for name in self.names(item))


def wanted(
    key: str,
    chosen: Filter,
    texts: Iterable[str],
    items: Iterable[Item],
    catalogue: Mapping[Catalogue, Collection[str]],
) -> Wanted:
    """What `texts` stand for among the names of `items` and those that exist."""
    known = {name for item in items for name in chosen.names(item) if name is not None}
    known.update(chosen.values, chosen.known)
    if chosen.catalogue is not None:
        known.update(catalogue.get(chosen.catalogue, ()))
    accepted: set[str] = set()
    unknown: list[str] = []
    for text in texts:
        found = matching(text, known)
        accepted |= found
        if not found and not _is_address(text):
            hint = did_you_mean(text, sorted(known), _separator(known))
            unknown.append(f"{key} {text}: no {chosen.what} has this name{hint}")
    return Wanted(chosen.names, accepted, tuple(unknown))


def matching(text: str, known: Collection[str]) -> set[str]:
    """The names that `text` stands for: that one, or all of which it is short."""
    if text in known:
        return {text}
    return {name for name in known if text in _short(name)}


def _short(name: str) -> Iterator[str]:
    """Other ways to write a name."""
    if name.startswith(_SPIFFE):
        domain, _, path = name.removeprefix(_SPIFFE).partition("/ns/")
        namespace, found, account = path.partition("/sa/")
        if found:
            yield account
            yield f"{namespace}/{account}"
            yield dns_name(namespace, account, domain)
    elif "/" in name:
        yield name.partition("/")[2]
    # States are sentences: "expired: ...".
    yield name.partition(",")[0].partition(":")[0]
    yield name.lower()


def _separator(known: Collection[str]) -> str:
    return "/sa/" if any(name.startswith(_SPIFFE) for name in known) else "/"


def _is_address(text: str) -> bool:
    """An address that no connection came from is a good question with no answer."""
    try:
        parse_ip(text)
    except InvalidAddress:
        return False
    return True
