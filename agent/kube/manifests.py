"""
The objects of a set of manifest files, through every state that the files pass.

Files are edited by hand and half-written when we look. While a file has a fault, what
it defines well is active, and so is what it defined when it last was good and does
not define now: a broken edit removes nothing. A file that is gone takes its objects
with it, and so does a document removed from a file without fault; but while any file
has a fault, an object that is in no file may be meant to be in that one, so it stays,
unless it can only open something.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from agent.kube.documents import InvalidManifest, parse_documents
from agent.kube.objects import Fault, KubeObject, ObjectKey, Reading, read
from agent.policy import istio, linkerd
from agent.policy.problem import Problem
from agent.workload.model import (
    EndpointSlice,
    Namespace,
    Node,
    Objects,
    Service,
    Workload,
)

SERVER_KIND: Final = f"Server.{linkerd.GROUP}"
# Kinds that close something: what of them cannot be read must not open it.
CLOSING_KINDS: Final = {
    SERVER_KIND: "Server",
    f"AuthorizationPolicy.{istio.GROUP}": "Istio AuthorizationPolicy",
    f"PeerAuthentication.{istio.GROUP}": "Istio PeerAuthentication",
}
# Kinds that can only permit: without them less is open, so they go when they are gone.
OPENING_KINDS: Final = frozenset(
    f"{kind}.{linkerd.GROUP}"
    for kind in (
        "AuthorizationPolicy",
        "MeshTLSAuthentication",
        "NetworkAuthentication",
        "ServerAuthorization",
    )
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """Everything in force now, and everything that is wrong now."""

    objects: Objects = field(default_factory=Objects)
    problems: tuple[Problem, ...] = ()
    complete: bool = True
    """Whether all of the source was read: only then is an absent object gone."""


@dataclass(frozen=True, slots=True)
class _File:
    """What one file has in force; `lost` closed something and was never readable."""

    data: bytes | None = None
    objects: Mapping[ObjectKey, KubeObject] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    lost: frozenset[ObjectKey] = frozenset()
    good: bytes | None = None
    """The last content without a fault; None if there was none."""
    complete: bool = True


class ManifestSet:
    """Remembers each file's last good objects between updates."""

    def __init__(
        self, kept: Mapping[str, bytes] | None = None, damaged: Collection[str] = ()
    ) -> None:
        """
        `kept`: content that earlier files had when they last were good, by path;
        `damaged` are names of what was kept and cannot be read.
        """
        self._damaged = damaged
        self._files: dict[str, _File] = {}
        self._started = False
        self._unknown: set[str] = set()
        self._merged: dict[ObjectKey, KubeObject] = {}
        for path, data in (kept or {}).items():
            self._files[path] = self._read(path, data, _File())
        self._merged = _merge(self._files, [])

    @property
    def good(self) -> dict[str, bytes]:
        """The last content without a fault of each file that is there."""
        files = self._files.items()
        return {path: file.good for path, file in files if file.good is not None}

    def as_kept(self) -> Change:
        """What the kept files say, for a source that cannot be read at all."""
        values = [self._merged[key] for key in sorted(self._merged)]
        objects = collect(values, unknown=self._damaged)
        return Change(objects, complete=False)

    def update(
        self, files: Mapping[str, bytes], unreadable: Mapping[str, str] | None = None
    ) -> Change:
        """
        Take all files as they are now, by path; never raises.

        `unreadable` are files that are there and could not be read, with the reason;
        they keep what they have.
        """
        reasons = unreadable or {}
        current: dict[str, _File] = {}
        problems: list[Problem] = []
        for path in sorted({*files, *reasons}):
            before = self._files.get(path, _File())
            if path in files:
                before = self._read(path, files[path], before)
            else:
                problems.append(_unreadable(path, reasons[path], before))
                before = replace(before, complete=False)
            current[path] = before
            problems += before.problems
        self._unknown = self._still_unknown(current)
        self._files, self._started = current, True
        merged = _merge(current, problems)
        complete = all(file.complete for file in current.values())
        if not complete:
            self._keep_absent(merged, problems)
        self._merged = merged
        lost = {key for file in current.values() for key in file.lost} - {*merged}
        values = [merged[key] for key in sorted(merged)]
        objects = collect(values, lost, self._unknown)
        return Change(objects, tuple(problems), complete)

    def _keep_absent(
        self, merged: dict[ObjectKey, KubeObject], problems: list[Problem]
    ) -> None:
        """Add what is in no file now, and may be in one that cannot be read."""
        for key, value in self._merged.items():
            if key not in merged and key.kind not in OPENING_KINDS:
                merged[key] = value
                message = "is in no file; it stays until every file can be read"
                problems.append(Problem(_title(key), "", message))

    def _still_unknown(self, current: Mapping[str, _File]) -> set[str]:
        """
        Files that were there when we started and of which nothing was ever read:
        what they close is not known. A broken file that comes later closes nothing.
        """
        names = self._unknown if self._started else current.keys()
        files = {path: current[path] for path in names if path in current}
        return {
            path
            for path, file in files.items()
            if not (file.complete or file.good or file.objects or file.lost)
        }

    def _read(self, path: str, data: bytes, before: _File) -> _File:
        if data == before.data:
            complete = data == before.good
            if before.complete is complete:
                return before
            return replace(before, complete=complete)
        try:
            documents = parse_documents(data)
        except InvalidManifest as error:
            problem = _unreadable(_at(path, error.line), error.message, before)
            return replace(before, data=data, problems=(problem,), complete=False)
        readings = [read(item.value, _at(path, item.line)) for item in documents]
        return self._file(path, data, readings, before)

    def _file(
        self, path: str, data: bytes, readings: list[Reading], before: _File
    ) -> _File:
        problems = [note for reading in readings for note in reading.notes]
        objects: dict[ObjectKey, KubeObject] = {}
        for key, value in (found for reading in readings for found in reading.objects):
            if key in objects:
                problems.append(_duplicate(path, key, path))
            else:
                objects[key] = value
        faults = [fault for reading in readings for fault in reading.faults]
        if not faults:
            return _File(data, objects, tuple(problems), good=data)
        problems += [fault.problem for fault in faults]
        for key, value in before.objects.items():
            if key not in objects:
                objects[key] = value
                problems.append(_kept(path, key))
        lost = self._lost(faults, objects, before)
        return _File(
            data, objects, tuple(problems), lost, good=before.good, complete=False
        )

    def _lost(
        self,
        faults: list[Fault],
        objects: Mapping[ObjectKey, KubeObject],
        before: _File,
    ) -> frozenset[ObjectKey]:
        """
        What closes something and cannot be read, in a file that was there when we
        started.

        Later on the last good state is that there is no such object. When we start
        there is no last good state: perhaps yesterday it closed a port.
        """
        return frozenset(
            fault.key
            for fault in faults
            if fault.key is not None
            and fault.key.kind in CLOSING_KINDS
            and fault.key not in objects
            and (not self._started or fault.key in before.lost)
        )


def _merge(
    files: Mapping[str, _File], problems: list[Problem]
) -> dict[ObjectKey, KubeObject]:
    """All files' objects; of one defined twice, the first by path."""
    merged: dict[ObjectKey, KubeObject] = {}
    origin: dict[ObjectKey, str] = {}
    for path, file in files.items():
        for key, value in file.objects.items():
            if key in merged:
                problems.append(_duplicate(path, key, origin[key]))
            else:
                merged[key], origin[key] = value, path
    return merged


def collect(
    values: Sequence[KubeObject],
    lost: Set[ObjectKey] = frozenset(),
    unknown: Collection[str] = (),
) -> Objects:
    """
    `values` by their kinds; of `lost`, which were never readable, what closes.

    `unknown` are files of which nothing was ever read: each may close every pod.
    """
    return Objects(
        workloads=_of_type(values, Workload),
        namespaces=_of_type(values, Namespace),
        services=_of_type(values, Service),
        endpoint_slices=_of_type(values, EndpointSlice),
        nodes=_of_type(values, Node),
        linkerd=linkerd.LinkerdPolicies(
            servers=_of_type(values, linkerd.Server),
            authorization_policies=_of_type(values, linkerd.AuthorizationPolicy),
            mesh_tls_authentications=_of_type(values, linkerd.MeshTLSAuthentication),
            network_authentications=_of_type(values, linkerd.NetworkAuthentication),
            server_authorizations=_of_type(values, linkerd.ServerAuthorization),
            unreadable_servers=frozenset(
                (key.namespace, key.name) for key in lost if key.kind == SERVER_KIND
            ),
        ),
        istio=istio.IstioPolicies(
            authorization_policies=_of_type(values, istio.AuthorizationPolicy),
            peer_authentications=_of_type(values, istio.PeerAuthentication),
            unreadable=frozenset(
                (f"{CLOSING_KINDS[key.kind]} {key.namespace}/{key.name}", key.namespace)
                for key in lost
                if key.kind in CLOSING_KINDS and key.kind != SERVER_KIND
            )
            | {(f"manifest file {path}", istio.EVERY_NAMESPACE) for path in unknown},
        ),
    )


def _of_type(values: Sequence[KubeObject], kind: type[T]) -> tuple[T, ...]:
    return tuple(value for value in values if isinstance(value, kind))


def _at(path: str, line: int | None) -> str:
    return f"{path}:{line}" if line else path


def _title(key: ObjectKey) -> str:
    kind = key.kind.partition(".")[0]
    return (
        f"{kind} {key.namespace}/{key.name}" if key.namespace else f"{kind} {key.name}"
    )


def _unreadable(place: str, reason: str, before: _File) -> Problem:
    rest = "its last good objects stay" if before.objects else "nothing of it is"
    return Problem(place, "", f"{reason}; {rest} in force")


def _duplicate(path: str, key: ObjectKey, holder: str) -> Problem:
    message = f"is defined in {holder} already, which stays in force"
    return Problem(f"{path}: {_title(key)}", "", message)


def _kept(path: str, key: ObjectKey) -> Problem:
    message = "its last good state stays in force until the file has no fault"
    return Problem(f"{path}: {_title(key)}", "", message)
