"""
The status socket's paths, and requests for them.

A filter that a document does not have is an error: whoever mistypes `outcome` shall
not take an unfiltered list for the answer. One that is given twice takes both values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from agent.errors import InputError
from agent.status.documents import NAMES, Filtered, Name
from agent.status.filters import FILTERS, Catalogue, wanted

PREFIX: Final = "/v1/"
MAX_PARAMETERS: Final = 20


class BadRequest(InputError):
    """A request that has no answer; `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Query:
    """One document, or the list of them (`name` None), and what of it to show."""

    name: Name | None
    filters: Mapping[str, tuple[str, ...]]

    @property
    def needs_catalogue(self) -> bool:
        """Whether names count that are in no item of the document itself."""
        if self.name is None:
            return False
        known = FILTERS[self.name]
        return any(known[key].catalogue is not None for key in self.filters)


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


def _filters(name: Name, query: str) -> dict[str, tuple[str, ...]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequest(400, f"query: {error}") from error
    found: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        known = FILTERS[name].get(key)
        if known is None:
            expected = ", ".join(FILTERS[name]) or "none"
            raise BadRequest(400, f"{name}: no filter {key!r}; there are: {expected}")
        if known.values and value not in known.values:
            expected = ", ".join(known.values)
            raise BadRequest(400, f"{key}={value}: expected one of {expected}")
        found[key] = (*found.get(key, ()), value)
    return found


def select(
    query: Query,
    document: Mapping[str, Any],
    catalogue: Mapping[Catalogue, Collection[str]] | None = None,
) -> dict[str, Any]:
    """
    The document with its lists reduced to what every filter accepts.

    It says how much that is, in `filtered`; see `documents.Filtered`.
    """
    if query.name is None or not query.filters:
        return dict(document)
    lists = {key: document[key] for key in _LISTS[query.name]}
    items = [item for each in lists.values() for item in each]
    tests = [
        wanted(key, FILTERS[query.name][key], texts, items, catalogue or {})
        for key, texts in query.filters.items()
    ]
    kept = {
        key: [item for item in each if all(test.keeps(item) for test in tests)]
        for key, each in lists.items()
    }
    filtered: Filtered = {
        "shown": sum(map(len, kept.values())),
        "of": len(items),
        "unknown": [text for test in tests for text in test.unknown],
    }
    return {**document, **kept, "filtered": filtered}
