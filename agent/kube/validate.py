"""
Manifests judged before they act: the errors, and what would have no effect. Pure.

The functions that the agent reads manifests by, so nothing passes here that it would
refuse. An admission webhook can answer by `read` alone, one object at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import yaml

from agent.identity.spiffe import TrustDomain
from agent.kube.documents import InvalidManifest, parse_documents
from agent.kube.manifests import ManifestSet
from agent.kube.objects import read
from agent.kube.offline import with_pods
from agent.policy.compiler import InboundDefaults
from agent.policy.problem import Problem
from agent.policy.schema import definitions
from agent.workload.model import Objects, Workload
from agent.workload.policies import PolicyBook
from agent.workload.without_effect import EffectJudge

_HEADER: Final = "# Made by `podlock policy crds`; a test keeps it so.\n"


@dataclass(frozen=True, slots=True)
class Validation:
    """How many objects were read, what is refused, and what is taken with a but."""

    objects: int
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def validate(
    files: Mapping[str, bytes],
    trust_domain: TrustDomain | None = None,
    defaults: InboundDefaults | None = None,
) -> Validation:
    """
    Judge all of some files together: references may lead from one to another.

    `trust_domain` and `defaults` as the agent has them; without, its own defaults.
    """
    count, errors = 0, []
    for path, data in sorted(files.items()):
        try:
            documents = parse_documents(data)
        except InvalidManifest as error:
            place = f"{path}:{error.line}" if error.line else path
            errors.append(Problem(place, "", error.message))
            continue
        for document in documents:
            reading = read(document.value, f"{path}:{document.line}")
            count += len(reading.objects)
            errors += [fault.problem for fault in reading.faults]
    change = ManifestSet().update(files)
    trust_domain = trust_domain or TrustDomain("cluster.local")
    defaults = defaults or InboundDefaults()
    book = PolicyBook(trust_domain, defaults)
    rules = book.rules(change.objects)
    closed = rules.istio.unreadable - change.objects.istio.unreadable
    titles = {title for title, _ in closed}
    errors += [problem for problem in rules.problems if problem.object in titles]
    warnings = [*change.problems, *rules.problems]
    namespaces = {item.name: item for item in change.objects.namespaces}
    for pod in change.objects.workloads:
        _, faults = book.compile(pod, namespaces.get(pod.namespace), rules)
        warnings += faults
    judge = EffectJudge(trust_domain, defaults.root_namespace)
    warnings += judge(_with_templates(files, change.objects), whole=False)
    refused = set(errors)
    told = tuple(item for item in dict.fromkeys(warnings) if item not in refused)
    # A file that cannot be read at all is an error, which ManifestSet words its way.
    broken = {problem.object for problem in errors if not problem.field}
    return Validation(
        count, tuple(errors), tuple(item for item in told if item.object not in broken)
    )


def _with_templates(files: Mapping[str, bytes], objects: Objects) -> Objects:
    """The objects, with a pod for each that a controller would make of a template."""
    documents: list[tuple[str, object]] = []
    for path, data in files.items():
        with contextlib.suppress(InvalidManifest):
            documents += [(path, item.value) for item in parse_documents(data)]
    pods = {
        key: value
        for source, document in with_pods(documents)
        for key, value in read(document, source).objects
        if isinstance(value, Workload)
    }
    return replace(objects, workloads=tuple(pods.values()))


def definitions_as_yaml() -> dict[str, str]:
    """The CustomResourceDefinitions of the policy kinds, as text, by file name."""
    return {
        name: _HEADER + yaml.safe_dump(document, sort_keys=False, width=88)
        for name, document in definitions().items()
    }
