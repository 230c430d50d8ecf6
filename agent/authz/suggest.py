"""
Policies that allow exactly what has been seen: `podlock authz suggest`. Pure.

Each port that was reached is open to those who were let in there, and every other port
of those namespaces is closed. What is written stands alone: policies that are in force
already may admit more, and are named. What was refused, or would be refused today, is
left out and listed, as are ports that look ephemeral.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from agent.authz import istio_form, linkerd_form
from agent.authz.compare import verdicts
from agent.authz.groups import Group, grouped
from agent.authz.overlay import policies
from agent.authz.reached import Manifest, Ports, Reached, ephemeral, named, reached
from agent.authz.seen import Flow, Tally
from agent.authz.survey import Survey
from agent.policy.rule import DEFAULT_ANNOTATION, DefaultPolicy
from agent.workload.model import Workload

Form = Literal["linkerd", "istio"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A flow that is left out, and why."""

    flow: Flow
    tally: Tally
    reason: str


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`notes`: what a person must know before they apply the manifests."""

    manifests: tuple[Manifest, ...]
    notes: tuple[str, ...]
    refused: tuple[Refused, ...] = ()


def suggest(
    flows: Iterable[tuple[Flow, Tally]],
    survey: Survey,
    nodes: Iterable[str],
    form: Form = "linkerd",
    *,
    include_refused: bool = False,
    include_ephemeral: bool = False,
) -> Suggestion:
    """
    In the kinds of one family. `nodes` are those whose agents have told the `flows`: of
    pods on others nothing is known.
    """
    meshed = [pod for pod in survey.workloads.values() if pod.meshed]
    groups = grouped(meshed)
    kept = list(flows)
    refused: tuple[Refused, ...] = ()
    if not include_refused:
        kept, refused = _divided(kept, survey)
    ports, gone = reached(kept, groups, survey)
    notes = [f"{name} is gone: what it was asked is left out" for name in gone]
    manifests: list[Manifest] = []
    for namespace in sorted({pod.namespace for pod in meshed}):
        pods = [pod for pod in meshed if pod.namespace == namespace]
        unseen = _unwatched(namespace, pods, set(nodes))
        if unseen:
            notes.append(unseen)
        elif form == "istio":
            manifests.append(istio_form.closed(namespace))
        elif not all(_denies(pod, survey) for pod in pods):
            manifests.append(linkerd_form.closed(namespace, survey))
        notes += _exceptions(pods, form)
    if not include_ephemeral:
        notes += _without_ephemeral(ports, survey)
    seen = list(named(ports))
    if form == "istio":
        made, limits = _by_group(seen, groups)
        manifests += made
        notes += limits
    else:
        domain = survey.setting.trust_domain
        for each in seen:
            manifests += linkerd_form.port(each, groups, domain)
    notes += _in_force(survey, {pod.namespace for pod in meshed})
    return Suggestion(tuple(manifests), tuple(notes), refused)


def _divided(
    flows: Iterable[tuple[Flow, Tally]], survey: Survey
) -> tuple[list[tuple[Flow, Tally]], tuple[Refused, ...]]:
    """Flows to write down, and those that were or today would be refused."""
    kept: list[tuple[Flow, Tally]] = []
    refused: list[Refused] = []
    for flow, tally in flows:
        reason = _refusal(flow, tally, survey)
        if reason is None:
            kept.append((flow, tally))
        else:
            refused.append(Refused(flow, tally, reason))
    return kept, tuple(refused)


def _refusal(flow: Flow, tally: Tally, survey: Survey) -> str | None:
    """
    Why no connection of a flow was let in, or none would be today.

    One that comes from several addresses is kept if one of them is let in today.
    """
    today = verdicts(flow, tally, survey)
    denied = bool(today) and not any(verdict.allowed for verdict in today)
    if denied:
        return f"the present policies refuse it: {today[0].reason}"
    if tally.allowed:
        return None
    return f"it was refused by {tally.rule}" if tally.rule else "it was refused"


def _without_ephemeral(ports: Ports, survey: Survey) -> Iterator[str]:
    """Takes ports that look ephemeral out of `ports`, with a note for each group."""
    for group, numbers in ephemeral(ports, survey).items():
        for number in numbers:
            del ports[group, number]
        yield (
            f"left out: {len(numbers)} ports of {group.namespace}/{group.name} from "
            f"{numbers[0]} to {numbers[-1]}, which look ephemeral (passive FTP, for "
            f"example); give that server a fixed range and name its ports, or write "
            f"each with --include-ephemeral"
        )


def _by_group(
    seen: list[Reached], groups: list[Group]
) -> tuple[list[Manifest], list[str]]:
    manifests: list[Manifest] = []
    limits: list[str] = []
    of_group: dict[Group, list[Reached]] = {}
    for each in seen:
        of_group.setdefault(each.group, []).append(each)
    for pods, ports in of_group.items():
        manifests.append(istio_form.group(ports, ports[0].name.rpartition("-")[0]))
        limits += istio_form.limits(pods, groups)
    return manifests, limits


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
        f"(`podlock seen --json`) of each node"
    )


def _exceptions(pods: Iterable[Workload], form: Form) -> Iterator[str]:
    """Pods with a default of their own: it wins over their namespace's."""
    deny = DefaultPolicy.DENY.value
    for pod in pods:
        own = pod.annotations.get(DEFAULT_ANNOTATION, deny)
        if own != deny and form == "linkerd":
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
