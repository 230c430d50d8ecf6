"""
The objects of one resource, as the API server told of them; only what is used. Pure.

An object that cannot be read keeps its last good state, and a Problem says so. What is
kept is small: 100,000 pods of other nodes are each an identity, its addresses, and what
policies select them by, which the pods of one workload share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.kube.conditions import Finding, Standing, standing_of
from agent.kube.objects import KubeObject, ObjectKey, Reading, read_json
from agent.kube.resources import Served
from agent.kube.trim import Trim, whole
from agent.kube.watch import Item, Key, Listed, Removed, Stored
from agent.policy.kinds import POLICY_GROUPS
from agent.policy.objects import PolicyObject
from agent.policy.problem import Problem

SOURCE: Final = "API server"


@dataclass(slots=True)
class Entry:
    """One object; `value` None where it never could be read."""

    version: int
    value: KubeObject | None
    key: ObjectKey | None = None
    problems: tuple[Problem, ...] = ()
    was_first: bool = False
    standing: Standing | None = None
    """Of a policy: what its status says."""


@dataclass(slots=True)
class Store:
    """What is in force of one resource; `synced` once the first list has come."""

    trim: Trim = whole
    needs: Callable[[Entry], bool] | None = None
    """What every true list has that once had it: the agent's pod, among its node's."""
    synced: bool = False
    doubt: str | None = None
    """Why the last list is not believed; what was known before it stays."""
    entries: dict[Key, Entry] = field(default_factory=dict)
    _listed: dict[Key, Entry] = field(default_factory=dict)

    def apply(self, event: Listed | Stored | Removed, served: Served) -> bool:
        """Take an event; returns whether anything may differ now."""
        match event:
            case Listed():
                return self._list(event, served)
            case Stored(item):
                entry = self._entry(item, served)
                before = self.entries.get(item.key)
                self.entries[item.key] = entry
                return before is None or (before.value, before.problems) != (
                    entry.value,
                    entry.problems,
                )
            case Removed(key):
                return self.entries.pop(key, None) is not None

    def clear(self) -> bool:
        """
        There is no such resource, so there are none of it: believed at once where none
        was known, else when it is said again. Returns: whether anything may differ.
        """
        if self.entries and not self._is_doubted("the kind is not installed any more"):
            return True
        before = self.entries, self.synced, self.doubt
        self.entries, self.synced, self.doubt = {}, True, None
        return before != ({}, True, None)

    def _list(self, page: Listed, served: Served) -> bool:
        if page.is_first:
            self._listed = {}
        for item in page.items:
            self._listed[item.key] = self._entry(item, served)
        if not page.is_last:
            return False
        if not self._is_believed():
            self._listed = {}
            return True
        self.entries, self._listed = self._listed, {}
        self.synced, self.doubt = True, None
        return True

    def _is_believed(self) -> bool:
        """
        Whether the list that has come may be true.

        An API server whose data were lost or restored answers with an empty list. What
        it says twice is so; that this process is not there is never so.
        """
        had = self.needs is not None and any(map(self.needs, self.entries.values()))
        if self.needs and had and not any(map(self.needs, self._listed.values())):
            self.doubt = "the list lacks this agent's own pod"
            return False
        if self._listed or not self.entries:
            return True
        return self._is_doubted("the list is empty")

    def _is_doubted(self, why: str) -> bool:
        """Whether the same was doubted before, and is believed now."""
        text = f"{why}, and {len(self.entries)} objects were known"
        if self.doubt == text:
            return True
        self.doubt = text
        return False

    def _entry(self, item: Item, served: Served) -> Entry:
        entry = self._read(item, served)
        if served.group in POLICY_GROUPS:
            entry.standing = standing_of(item, served)
        return entry

    def _read(self, item: Item, served: Served) -> Entry:
        reading = read_json(item.raw, served.group, served.kind, SOURCE)
        before = self.entries.get(item.key)
        if not reading.faults:
            return self._good(item, reading, before)
        key = reading.faults[0].key
        problems = tuple(fault.problem for fault in reading.faults)
        value = before.value if before else None
        if value is not None:
            text = "its last good state stays in force until it can be read"
            problems += (Problem(problems[0].object, "", text),)
        # When we start there is no last good state: perhaps there was one yesterday.
        first = before.was_first if before else not self.synced
        return Entry(item.version, value, key, problems, first)

    def _good(self, item: Item, reading: Reading, before: Entry | None) -> Entry:
        (key, value), *_ = reading.objects
        value, cost = self.trim(value)
        if before is not None and before.value == value:
            value = before.value  # the very same is compared at once later on
        if not cost:
            return Entry(item.version, value, key)
        title = f"{SOURCE}: {_title(key)}"
        return Entry(item.version, value, key, (Problem(title, "metadata", cost),))

    @property
    def lost(self) -> Iterable[ObjectKey]:
        """What was there when we started and has never been readable."""
        return (
            entry.key
            for entry in self.entries.values()
            if entry.value is None and entry.was_first and entry.key is not None
        )

    @property
    def findings(self) -> Iterable[Finding]:
        """Policies, each with its status and with what makes it unreadable."""
        for entry in self.entries.values():
            if entry.standing is None or entry.key is None:
                continue
            title = _title(entry.key)
            if isinstance(entry.value, PolicyObject):
                title = entry.value.title
            yield Finding(title, entry.standing, entry.problems)

    @property
    def problems(self) -> Iterable[Problem]:
        """What is wrong with single objects."""
        return (text for entry in self.entries.values() for text in entry.problems)


def _title(key: ObjectKey) -> str:
    kind = key.kind.partition(".")[0]
    return f"{kind} {key.namespace}/{key.name}"


def merged(stores: Iterable[Store]) -> Mapping[ObjectKey, KubeObject]:
    """
    All objects by key.

    A pod that moved to another node may be in two stores for a moment: the newer one
    counts, for versions of one resource can be compared.
    """
    found: dict[ObjectKey, Entry] = {}
    for store in stores:
        for entry in store.entries.values():
            if entry.key is None or entry.value is None:
                continue
            known = found.get(entry.key)
            if known is None or known.version < entry.version:
                found[entry.key] = entry
    return {key: entry.value for key, entry in found.items() if entry.value}
