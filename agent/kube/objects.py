"""
One Kubernetes object, already parsed from YAML or JSON, to a value of ours.

`read` never raises: what is wrong with an object comes back as a fault that names the
source, the object and the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from agent.kube import kinds
from agent.kube.convert import (
    InvalidObject,
    convert,
    endpoint_slice,
    endpoints,
    namespace,
    node,
    pod,
    served_pod,
    service,
    without_nulls,
)
from agent.policy.kinds import POLICY_KINDS, PolicyKind
from agent.policy.objects import PolicyObject
from agent.policy.problem import Problem
from agent.workload.model import EndpointSlice, Namespace, Node, Service, Workload

KubeObject = Workload | Namespace | Node | Service | EndpointSlice | PolicyObject

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# What has no namespace, of the kinds that are read.
_CLUSTER_SCOPED: Final = frozenset({("", "Namespace"), ("", "Node")})


class ObjectKey(NamedTuple):
    """What makes two documents one object; `kind` has its group: "Server.policy..."."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Fault:
    """An object that could not be read; `key` where the document at least has one."""

    key: ObjectKey | None
    problem: Problem


@dataclass(frozen=True, slots=True)
class Reading:
    """What one document holds; `notes` are about kinds that nobody here reads."""

    objects: tuple[tuple[ObjectKey, KubeObject], ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[Problem, ...] = ()


def read(document: object, source: str) -> Reading:
    """Read one object, or a `List` of them; `source` is its file and line."""
    if document is None:
        return Reading()  # an empty document, as between two "---"
    title = f"{source}: {_title(document)}"
    if not isinstance(document, dict):
        message = f"expected an object, got {type(document).__name__}"
        return Reading(faults=(Fault(None, Problem(title, "", message)),))
    header = _header(document)
    if isinstance(header, Problem):
        fault = Problem(title, header.field, header.message)
        return Reading(faults=(Fault(None, fault),))
    group, version, kind = header
    if (group, kind) == ("", "List"):
        return _read_list(document, source, title)
    reader = _READERS.get((group, kind))
    if reader is None:
        note = Problem(title, "kind", f"kind {kind} is not used by podlock")
        return Reading(notes=(note,))
    key = _key(group, kind, document)
    if version not in reader.versions:
        expected = ", ".join(reader.versions)
        fault = Problem(title, "apiVersion", f"{version} is not known ({expected})")
        return Reading(faults=(Fault(key, fault),))
    try:
        value = reader.read(without_nulls(document))
    except InvalidObject as error:
        fault = Problem(title, error.field, error.message)
        return Reading(faults=(Fault(key, fault),))
    return Reading(objects=((_key_of(group, kind, value), value),))


def read_json(raw: bytes, group: str, kind: str, source: str) -> Reading:
    """Read one object of a kind that is known from where it came: an API server."""
    try:
        value = _SERVED_READERS[group, kind].read(raw)
    except (InvalidObject, *_UNREADABLE) as error:
        field = error.field if isinstance(error, InvalidObject) else ""
        text = error.message if isinstance(error, InvalidObject) else str(error)
        document = _decoded(raw)
        key = _key(group, kind, document) if isinstance(document, dict) else None
        name = f"{key.namespace}/{key.name}".strip("/") if key else "without a name"
        problem = Problem(f"{source}: {kind} {name}", field, text)
        return Reading(faults=(Fault(key, problem),))
    return Reading(objects=((_key_of(group, kind, value), value),))


def _decoded(raw: bytes) -> object:
    """JSON that may be anything, or None where it is none."""
    try:
        return msgspec.json.decode(raw)
    except _UNREADABLE:
        return None


def _read_list(document: Mapping[str, Any], source: str, title: str) -> Reading:
    try:
        items = convert(without_nulls(document), kinds.ListKind).items
    except InvalidObject as error:
        fault = Problem(title, error.field, error.message)
        return Reading(faults=(Fault(None, fault),))
    readings = [read(item, source) for item in items]
    return Reading(
        objects=tuple(found for reading in readings for found in reading.objects),
        faults=tuple(fault for reading in readings for fault in reading.faults),
        notes=tuple(note for reading in readings for note in reading.notes),
    )


def _header(document: Mapping[str, Any]) -> tuple[str, str, str] | Problem:
    """Group, version and kind, or what is wrong with them."""
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not version:
        return Problem("", "apiVersion", "expected a version such as v1")
    if not isinstance(kind, str) or not kind:
        return Problem("", "kind", "expected a kind such as Pod")
    group, _, number = version.rpartition("/")
    return group, number, kind


def _title(document: object) -> str:
    """The object as a person would name it, from a document that may be anything."""
    if not isinstance(document, dict):
        return "document"
    kind = document.get("kind")
    metadata = document.get("metadata")
    title = kind[:80] if isinstance(kind, str) and kind else "object"
    if not isinstance(metadata, dict):
        return title
    names = [metadata.get("namespace"), metadata.get("name")]
    written = "/".join(name[:253] for name in names if isinstance(name, str) and name)
    return f"{title} {written}".rstrip()


def _key(group: str, kind: str, document: Mapping[str, Any]) -> ObjectKey | None:
    """The key of an object that may be broken, if its metadata is not."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return None
    name, within = metadata.get("name"), metadata.get("namespace") or "default"
    if not isinstance(name, str) or not isinstance(within, str):
        return None
    within = "" if (group, kind) in _CLUSTER_SCOPED else within
    return ObjectKey(_full_kind(group, kind), within, name)


def _key_of(group: str, kind: str, value: KubeObject) -> ObjectKey:
    within = "" if isinstance(value, Namespace | Node) else value.namespace
    return ObjectKey(_full_kind(group, kind), within, value.name)


def _full_kind(group: str, kind: str) -> str:
    return f"{kind}.{group}" if group else kind


def _spec_of(document: object) -> Mapping[str, Any]:
    """Of a document that was converted already, and so has what its kind must have."""
    whole: Any = _decoded(document) if isinstance(document, bytes) else document
    spec: Mapping[str, Any] = whole.get("spec", {})
    return spec


class _Reader(NamedTuple):
    versions: tuple[str, ...]
    read: Callable[[object], KubeObject]


def _policy(kind: PolicyKind) -> Callable[[object], KubeObject]:
    def read(document: object) -> KubeObject:
        found = convert(document, kind.type)
        version = found.api_version.rpartition("/")[2]
        later = kind.later.get(version, ())
        for name in later and _spec_of(document):
            if name in later:
                message = f"is not known in {version}; expected {kind.versions[0]}"
                raise InvalidObject(f"spec.{name}", message)
        return found

    return read


_READERS: Final[Mapping[tuple[str, str], _Reader]] = {
    ("", "Pod"): _Reader(("v1",), pod),
    ("", "Namespace"): _Reader(("v1",), namespace),
    ("", "Service"): _Reader(("v1",), service),
    ("", "Node"): _Reader(("v1",), node),
    ("", "Endpoints"): _Reader(("v1",), endpoints),
    ("discovery.k8s.io", "EndpointSlice"): _Reader(("v1", "v1beta1"), endpoint_slice),
    **{
        (kind.group, kind.name): _Reader(kind.versions, _policy(kind))
        for kind in POLICY_KINDS
    },
}
_SERVED_READERS: Final = {**_READERS, ("", "Pod"): _Reader(("v1",), served_pod)}
