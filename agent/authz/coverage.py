"""
What a comparison rests on: the nodes whose connections were seen, and the pods that a
proposal is about and that no connection was seen to. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.authz.seen import NodeFlows
from agent.authz.survey import Survey


@dataclass(frozen=True, slots=True)
class Unseen:
    """
    A pod whose policy changes, and to which no connection was seen.

    `node` is "" for a pod that is on no node yet; `watched`: its node was asked.
    """

    pod: str
    node: str
    watched: bool


def unseen(
    nodes: Iterable[NodeFlows], now: Survey, proposed: Survey
) -> tuple[Unseen, ...]:
    """The pods of `now` that are judged by another policy then, and have no flow."""
    nodes = tuple(nodes)
    watched = {each.node for each in nodes}
    reached = {flow.destination for each in nodes for flow, _ in each.flows}
    return tuple(
        Unseen(key, pod.node, pod.node in watched)
        for key, pod in now.workloads.items()
        if key not in reached and _changes(key, now, proposed)
    )


def _changes(key: str, now: Survey, proposed: Survey) -> bool:
    before, after = now.workloads[key], proposed.workloads.get(key)
    if after is None:
        return before.meshed
    if not (before.meshed and after.meshed):
        return before.meshed is not after.meshed
    return now.policy_of(before) != proposed.policy_of(after)
