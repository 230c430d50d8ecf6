"""
Policies that allow exactly what has been seen: `podlock authz suggest`. Pure.

A Server for each port that was reached, closed but for the clients that were let in
there; and a default of `deny` for all other ports of those namespaces. They stand
alone: policies that are in force already may admit more, and are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.authz.groups import Group, grouped
from agent.authz.overlay import policies
from agent.authz.seen import Flow, Tally
from agent.authz.survey import Survey
from agent.identity.spiffe import SpiffeId
from agent.policy.compiler import DEFAULT_ANNOTATION
from agent.policy.linkerd import GROUP
from agent.policy.rule import DefaultPolicy
from agent.workload.model import Namespace, Workload

Manifest = dict[str, Any]

_MAX_NAME: Final = 50


@dataclass(slots=True)
class Clients:
    """Who was let in at one port: identities, and addresses without one."""

    identities: set[SpiffeId] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`notes`: what a person must know before they apply the manifests."""

    manifests: tuple[Manifest, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """A port of a group of pods, and who was let in there."""

    group: Group
    port: int
    clients: Clients
    name: str
    """Unique in the namespace, and the name of what is written about it."""


def suggest(
    flows: Iterable[tuple[Flow, Tally]], survey: Survey, nodes: Iterable[str]
) -> Suggestion:
    """
    Linkerd's kinds. `nodes` are those whose agents have told the `flows`: of pods on
    others nothing is known.
    """
    meshed = [pod for pod in survey.workloads.values() if pod.meshed]
    groups = grouped(meshed)
    seen, gone = reached(flows, groups, survey)
    manifests: list[Manifest] = []
    notes = [f"{name} is gone: what it was asked is left out" for name in gone]
    watched = set(nodes)
    for namespace in sorted({pod.namespace for pod in meshed}):
        pods = [pod for pod in meshed if pod.namespace == namespace]
        unseen = _unwatched(namespace, pods, watched)
        if unseen:
            notes.append(unseen)
        elif not all(_denies(pod, survey) for pod in pods):
            manifests.append(_closed(namespace, survey))
        notes += _exceptions(pods)
    for each in seen:
        manifests += _linkerd(each, groups)
    notes += _in_force(survey, {each.group.namespace for each in seen})
    return Suggestion(tuple(manifests), tuple(notes))


def reached(
    flows: Iterable[tuple[Flow, Tally]], groups: Iterable[Group], survey: Survey
) -> tuple[list[Reached], list[str]]:
    """The ports that somebody was let in at, and the pods that are gone since."""
    of_pod = {pod.key: group for group in groups for pod in group.pods}
    found: dict[tuple[Group, int], Clients] = {}
    gone: dict[str, None] = {}
    for flow, tally in flows:
        if not tally.allowed:
            continue
        group = of_pod.get(flow.destination)
        if group is None:
            if flow.destination not in survey.workloads:
                gone[flow.destination] = None
            continue
        clients = found.setdefault((group, flow.port), Clients())
        if flow.meshed:
            clients.identities.add(SpiffeId.parse(flow.client))
        else:
            clients.addresses.add(flow.client)
    return list(_named(found)), list(gone)


def _named(found: Mapping[tuple[Group, int], Clients]) -> Iterator[Reached]:
    taken: set[tuple[str, str]] = set()
    order = sorted(found, key=lambda each: (each[0].namespace, each[0].name, each[1]))
    for group, port in order:
        base = group.name.lower().replace("_", "-").replace(".", "-")[:_MAX_NAME]
        name, number = f"{base}-{port}", 1
        while (group.namespace, name) in taken:
            number += 1
            name = f"{base}-{number}-{port}"
        taken.add((group.namespace, name))
        yield Reached(group, port, found[group, port], name)


# Linkerd's kinds.


def _linkerd(each: Reached, groups: list[Group]) -> Iterator[Manifest]:
    namespace, name = each.group.namespace, each.name
    selector = each.group.selector(groups)
    spec = {"podSelector": selector, "port": each.port}
    yield _object("v1beta1", "Server", namespace, name, spec)
    if each.clients.identities:
        spec = _identities(sorted(each.clients.identities), each.group)
        yield _object("v1alpha1", "MeshTLSAuthentication", namespace, name, spec)
        yield _rule(namespace, name, "MeshTLSAuthentication", name)
    if each.clients.addresses:
        plain = f"{name}-plaintext"
        networks = [{"cidr": _host(ip)} for ip in sorted(each.clients.addresses)]
        spec = {"networks": networks}
        yield _object("v1alpha1", "NetworkAuthentication", namespace, plain, spec)
        yield _rule(namespace, plain, "NetworkAuthentication", name)


def _rule(namespace: str, name: str, kind: str, server: str) -> Manifest:
    spec = {
        "targetRef": {"group": GROUP, "kind": "Server", "name": server},
        "requiredAuthenticationRefs": [{"group": GROUP, "kind": kind, "name": name}],
    }
    return _object("v1alpha1", "AuthorizationPolicy", namespace, name, spec)


def _identities(identities: Iterable[SpiffeId], group: Group) -> Manifest:
    """ServiceAccounts by reference: a name that any trust domain understands."""
    refs: list[Manifest] = []
    texts: list[str] = []
    own = group.pods[0]
    for identity in identities:
        namespace, account = identity.namespace, identity.service_account
        if namespace is None or account is None:
            texts.append(str(identity))
            continue
        ref = {"kind": "ServiceAccount", "name": account}
        if namespace != own.namespace:
            ref["namespace"] = namespace
        refs.append(ref)
    return ({"identityRefs": refs} if refs else {}) | (
        {"identities": texts} if texts else {}
    )


def _host(ip: str) -> str:
    return f"{ip}/128" if ":" in ip else f"{ip}/32"


def _object(
    version: str, kind: str, namespace: str, name: str, spec: Manifest
) -> Manifest:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


# Everything else is closed.


def _closed(name: str, survey: Survey) -> Manifest:
    """The Namespace as it is, with `deny` as its default."""
    known = {item.name: item for item in survey.objects.namespaces}
    namespace = known.get(name, Namespace(name))
    annotations = {
        **namespace.annotations,
        DEFAULT_ANNOTATION: DefaultPolicy.DENY.value,
    }
    metadata: Manifest = {"name": name, "annotations": annotations}
    if namespace.labels:
        metadata["labels"] = dict(namespace.labels)
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _denies(pod: Workload, survey: Survey) -> bool:
    return survey.policy_of(pod).default is DefaultPolicy.DENY


def _unwatched(
    namespace: str, pods: Iterable[Workload], watched: set[str]
) -> str | None:
    elsewhere = sorted(
        {pod.node or "no node yet" for pod in pods if pod.node not in watched}
    )
    if not elsewhere:
        return None
    return (
        f"Namespace {namespace} is left open: what its pods on "
        f"{', '.join(elsewhere)} were asked is not known here; add --seen FILE "
        f"(podlock authz seen --json) of each node"
    )


def _exceptions(pods: Iterable[Workload]) -> Iterator[str]:
    deny = DefaultPolicy.DENY.value
    for pod in pods:
        own = pod.annotations.get(DEFAULT_ANNOTATION, deny)
        if own != deny:
            yield (
                f"Pod {pod.key} has its own {DEFAULT_ANNOTATION}: {own}, which wins "
                f"over its namespace's; remove it to close the pod's other ports"
            )


def _in_force(survey: Survey, namespaces: set[str]) -> list[str]:
    names = sorted(
        item.title for item in policies(survey.objects) if item.namespace in namespaces
    )
    if not names:
        return []
    return [f"in force already, and to be removed: {', '.join(names)}"]
