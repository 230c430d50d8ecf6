"""
Istio's PeerAuthentication: which ports of a workload take plaintext.

The narrowest scope that says something decides: port, workload, namespace, mesh; UNSET
says nothing. Of two objects in one scope the older one holds. DISABLE is PERMISSIVE
here as in Istio's own L4 proxy: peers that can speak mutual TLS always do.

Source: istio.io, "PeerAuthentication" reference; Istio's architecture/ambient notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.policy.istio import MtlsMode, PeerAuthentication, WorkloadSelector
from agent.policy.problem import Problem
from agent.policy.rule import MtlsMandate, MutualTlsPolicy

MESH_DEFAULT = MtlsMandate(strict=False, object="mesh", field="", mode="PERMISSIVE")


@dataclass(frozen=True, slots=True)
class PeerAuthentications:
    """Those in force: the mesh's, one of each namespace, and those of some pods."""

    mesh: PeerAuthentication | None = None
    namespaces: Mapping[str, PeerAuthentication] = field(default_factory=dict)
    workloads: Mapping[str, tuple[PeerAuthentication, ...]] = field(
        default_factory=dict
    )

    @property
    def is_empty(self) -> bool:
        """Whether nobody said anything."""
        return self.mesh is None and not self.namespaces and not self.workloads


def arrange(
    objects: Iterable[PeerAuthentication], root_namespace: str
) -> tuple[PeerAuthentications, tuple[Problem, ...]]:
    """By scope, the older first, with what has no effect."""
    mesh: PeerAuthentication | None = None
    namespaces: dict[str, PeerAuthentication] = {}
    workloads: dict[str, list[PeerAuthentication]] = {}
    problems: list[Problem] = []
    for item in sorted(objects, key=lambda item: item.age):
        problems += _disabled(item)
        in_root = item.namespace == root_namespace
        if item.spec.selects_pods and in_root:
            message = "has no effect in the mesh's root namespace, as in Istio"
            problems.append(Problem(item.title, "spec.selector", message))
        elif item.spec.selects_pods:
            workloads.setdefault(item.namespace, []).append(item)
        elif in_root and mesh is None:
            mesh = item
        elif not in_root and item.namespace not in namespaces:
            namespaces[item.namespace] = item
        else:
            holder = mesh if in_root else namespaces[item.namespace]
            assert holder is not None
            problems.append(_second(item, holder))
    lists = {name: tuple(items) for name, items in workloads.items()}
    return PeerAuthentications(mesh, namespaces, lists), tuple(problems)


def mutual_tls(
    namespace: str, labels: Mapping[str, str], all_of_them: PeerAuthentications
) -> tuple[MutualTlsPolicy | None, tuple[Problem, ...]]:
    """What one workload's ports demand; None where nobody said anything."""
    if all_of_them.is_empty:
        return None, ()
    mandate = MESH_DEFAULT
    for item in (all_of_them.mesh, all_of_them.namespaces.get(namespace)):
        if item is not None:
            mandate = _mandate(item, item.spec.mtls.mode, "spec.mtls.mode") or mandate
    own = [
        item
        for item in all_of_them.workloads.get(namespace, ())
        if _selects(item.spec.selector, labels)
    ]
    if not own:
        return MutualTlsPolicy(mandate), ()
    oldest, *others = own
    mode = oldest.spec.mtls.mode
    mandate = _mandate(oldest, mode, "spec.mtls.mode") or mandate
    ports: dict[int, MtlsMandate] = {}
    for port, mtls in sorted(oldest.spec.port_level_mtls.items()):
        found = _mandate(oldest, mtls.mode, f"spec.portLevelMtls[{port}].mode")
        if found is not None:
            ports[int(port)] = found
    problems = tuple(_second(item, oldest) for item in others)
    return MutualTlsPolicy(mandate, ports), problems


def _mandate(
    item: PeerAuthentication, mode: MtlsMode, place: str
) -> MtlsMandate | None:
    if mode == "UNSET":
        return None
    return MtlsMandate(mode == "STRICT", item.title, place, mode)


def _selects(selector: WorkloadSelector | None, labels: Mapping[str, str]) -> bool:
    return selector is not None and selector.selects(labels)


def _second(item: PeerAuthentication, holder: PeerAuthentication) -> Problem:
    message = f"{holder.title} has the same scope and stays in force: it is older"
    if item.metadata.creation_timestamp == holder.metadata.creation_timestamp:
        message = f"{holder.title} has the same scope and stays in force: by its name"
    return Problem(item.title, "spec.selector", message)


def _disabled(item: PeerAuthentication) -> list[Problem]:
    modes = [("spec.mtls.mode", item.spec.mtls.mode)]
    modes += [
        (f"spec.portLevelMtls[{port}].mode", mtls.mode)
        for port, mtls in sorted(item.spec.port_level_mtls.items())
    ]
    message = "DISABLE counts as PERMISSIVE: who can speak mutual TLS does"
    return [
        Problem(item.title, place, message)
        for place, mode in modes
        if mode == "DISABLE"
    ]
