"""
Manifests that no agent watches: a directory of a repository, or what an agent told.

Stricter and wider than what an agent does with them. A fault ends it, for an answer
that rests on half of the objects is none; and a Deployment, which an agent leaves to
Kubernetes, stands here for the pod that it would make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from agent.errors import InputError
from agent.kube.directory import manifest_files, read_all
from agent.kube.documents import InvalidManifest, parse_documents
from agent.kube.manifests import collect
from agent.kube.objects import KubeObject, ObjectKey, read
from agent.policy.problem import Problem
from agent.workload.model import Objects

# Where the kinds that make pods have their template.
_TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


class InvalidManifests(InputError):
    """What is wrong with some manifests, one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def read_directory(directory: Path) -> Objects:
    """Every manifest below `directory`. Raises: InvalidManifests."""
    try:
        paths = {str(p.relative_to(directory)): None for p in manifest_files(directory)}
    except OSError as error:
        place = str(error.filename or directory)
        text = error.strerror or str(error)
        raise InvalidManifests([Problem(place, "", text)]) from error
    files, unreadable = read_all(directory, paths)
    problems = [Problem(path, "", reason) for path, reason in unreadable.items()]
    documents: list[tuple[str, object]] = []
    for path, data in files.items():
        try:
            documents += [
                (f"{path}:{item.line}", item.value) for item in parse_documents(data)
            ]
        except InvalidManifest as error:
            place = f"{path}:{error.line}" if error.line else path
            problems.append(Problem(place, "", error.message))
    if problems:
        raise InvalidManifests(problems)
    if not documents:
        raise InvalidManifests([Problem(str(directory), "", "no manifest is in it")])
    return read_documents(documents)


def read_documents(documents: Iterable[tuple[str, object]]) -> Objects:
    """Objects, each with the place where it is written. Raises: InvalidManifests."""
    problems: list[Problem] = []
    merged: dict[ObjectKey, KubeObject] = {}
    for source, document in with_pods(documents):
        reading = read(document, source)
        problems += [fault.problem for fault in reading.faults]
        for key, value in reading.objects:
            if key in merged:
                name = f"{source}: {key.kind} {key.namespace}/{key.name}"
                problems.append(Problem(name, "", "is defined already"))
            merged[key] = value
    if problems:
        raise InvalidManifests(problems)
    return collect([merged[key] for key in sorted(merged)])


def with_pods(
    documents: Iterable[tuple[str, object]],
) -> Iterator[tuple[str, object]]:
    """The same, with a pod in the place of what would make pods."""
    for source, document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            items = document.get("items")
            if isinstance(items, list):
                yield from with_pods((source, item) for item in items)
                continue
        yield source, _pod_of(document) or document


def _pod_of(document: object) -> dict[str, Any] | None:
    if not isinstance(document, dict):
        return None
    path = _TEMPLATES.get(str(document.get("kind")))
    if path is None:
        return None
    template: Any = document
    for step in path:
        template = template.get(step) if isinstance(template, dict) else None
    own = document.get("metadata")
    if not isinstance(template, dict) or not isinstance(own, dict):
        return None
    inner = template.get("metadata")
    metadata = {
        **(inner if isinstance(inner, dict) else {}),
        "name": own.get("name"),
        "namespace": own.get("namespace") or "default",
    }
    spec = template.get("spec")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
