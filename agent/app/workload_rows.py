"""Every pod that a node knows, with what became of it and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from agent.identity.spiffe import TrustDomain
from agent.policy.problem import Problem
from agent.status import documents
from agent.workload.model import Workload
from agent.workload.registry import MESH_LABEL, NodeView


def workloads(
    view: NodeView,
    node: str,
    trust_domain: TrustDomain,
    captured: Collection[str],
    waiting: Mapping[str, str],
) -> documents.Workloads:
    """
    Pods of this node that are in the mesh, that should be and are not, and that stay
    outside; and those of other nodes.

    Args: `captured` are uids, `waiting` why a pod could not be captured, by uid.
    """
    faults = _by_pod(view.problems)
    found: list[documents.Workload] = []
    for pod in view.workloads:
        state, reason = (
            _here(pod, view, captured, waiting)
            if pod.node == node
            else ("remote" if pod.meshed else "outside", None)
        )
        reasons = [each for each in (reason, *faults.get(pod.key, ())) if each]
        found.append(
            {
                "uid": pod.uid,
                "namespace": pod.namespace,
                "name": pod.name,
                "node": pod.node,
                "identity": str(pod.identity(trust_domain)) if pod.meshed else None,
                "addresses": [str(ip) for ip in pod.addresses],
                "state": state,
                "reason": "; ".join(reasons) or None,
            }
        )
    found.sort(key=lambda row: (row["namespace"], row["name"]))
    counts = Counter(row["state"] for row in found)
    return {"workloads": found, "counts": dict(sorted(counts.items()))}


def _here(
    pod: Workload,
    view: NodeView,
    captured: Collection[str],
    waiting: Mapping[str, str],
) -> tuple[documents.WorkloadState, str | None]:
    """Of a pod of this node."""
    if pod.uid in captured:
        return "captured", None
    if pod.uid in view.pods:
        return "waiting", waiting.get(pod.uid, "it was not tried yet")
    if not pod.meshed:
        return "outside", _why_outside(pod)
    if pod.uid in view.unplaced:
        return "waiting", None  # a problem says so
    return "refused", None


def _why_outside(pod: Workload) -> str | None:
    if pod.host_network:
        return "it is on the host's network"
    if pod.static:
        return "it is a static pod, and has no ServiceAccount"
    if pod.labels.get(MESH_LABEL) == "disabled":
        return f"its label {MESH_LABEL} is disabled"
    return "neither it nor its namespace has the label " + MESH_LABEL


def _by_pod(problems: Sequence[Problem]) -> dict[str, list[str]]:
    """What is wrong with pods, by `namespace/name`."""
    found: dict[str, list[str]] = {}
    for problem in problems:
        kind, _, key = problem.object.partition(" ")
        if kind == "Pod":
            found.setdefault(key, []).append(problem.message)
    return found
