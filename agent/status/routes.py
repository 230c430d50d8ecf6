"""
The status socket's paths and their filters, as a table.

A filter that a document does not have is an error: whoever mistypes `outcome` shall
not take an unfiltered list for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.parse import parse_qsl

from agent.errors import InputError
from agent.status.documents import NAMES, Name
from agent.workload.connection import Direction, Ending, Path

PREFIX: Final = "/v1/"
MAX_PARAMETERS: Final = 20

Test = Callable[[dict[str, Any], str], bool]


class BadRequest(InputError):
    """A request that has no answer; `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Query:
    """One document, or the list of them (`name` None), and what of it to show."""

    name: Name | None
    filters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Filter:
    """`values`, where there are any, are all that it takes."""

    test: Test
    values: tuple[str, ...] = ()


def _field(name: str, *values: str) -> _Filter:
    return _Filter(lambda item, value: item.get(name) == value, values)


def _either_end(name: str) -> _Filter:
    def test(item: dict[str, Any], value: str) -> bool:
        return value in (item["source"][name], item["destination"][name])

    return _Filter(test)


def _qualified(item: dict[str, Any], value: str) -> bool:
    return f"{item['namespace']}/{item['name']}" == value


FILTERS: Final[dict[Name, dict[str, _Filter]]] = {
    "status": {},
    "workloads": {
        "workload": _Filter(_qualified),
        "namespace": _field("namespace"),
        "identity": _field("identity"),
        "state": _field("state", "captured", "waiting", "refused", "remote", "outside"),
    },
    "certificates": {"identity": _field("identity"), "state": _field("state")},
    "policies": {"workload": _field("workload")},
    "connections": {
        "workload": _either_end("workload"),
        "identity": _either_end("identity"),
        "outcome": _field("outcome", "open", *get_args(Ending)),
        "direction": _field("direction", *get_args(Direction)),
        "path": _field("path", *get_args(Path)),
    },
    "seen": {
        "client": _field("client"),
        "workload": _Filter(lambda item, value: item["destination"] == value),
        "path": _field("path", *get_args(Path)),
    },
    "events": {"kind": _field("kind"), "object": _field("object")},
    "objects": {"kind": _field("kind")},
}

_LISTS: Final[dict[Name, tuple[str, ...]]] = {
    "status": (),
    "workloads": ("workloads",),
    "certificates": ("certificates",),
    "policies": ("policies",),
    "connections": ("open", "recent"),
    "seen": ("flows",),
    "events": ("events",),
    "objects": ("manifests",),
}


def paths() -> dict[str, list[str]]:
    """Every path and its filters."""
    return {PREFIX + name: list(FILTERS[name]) for name in NAMES}


def parse(method: str, path: str, query: str) -> Query:
    """Read a request. Raises: BadRequest."""
    if method != "GET":
        raise BadRequest(405, f"{method}: only GET is served here")
    if path == "/":
        return Query(None, {})
    for name in NAMES:
        if path == PREFIX + name:
            return Query(name, _filters(name, query))
    raise BadRequest(404, f"{path}: no such path; there are {', '.join(paths())}")


def _filters(name: Name, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequest(400, f"query: {error}") from error
    for key, value in pairs:
        known = FILTERS[name].get(key)
        if known is None:
            expected = ", ".join(FILTERS[name]) or "none"
            raise BadRequest(400, f"{name}: no filter {key!r}; there are: {expected}")
        if known.values and value not in known.values:
            expected = ", ".join(known.values)
            raise BadRequest(400, f"{key}={value}: expected one of {expected}")
    return dict(pairs)


def select(query: Query, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its lists reduced to what every filter accepts."""
    if query.name is None or not query.filters:
        return dict(document)
    tests = [(FILTERS[query.name][key].test, v) for key, v in query.filters.items()]
    return dict(document) | {
        key: [item for item in document[key] if all(t(item, v) for t, v in tests)]
        for key in _LISTS[query.name]
    }
