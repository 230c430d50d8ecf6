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


@dataclass(frozen=True, slots=True)
class Coverage:
    """The pods whose policy changes: how many had connections, and which had none."""

    reached: int
    unseen: tuple[Unseen, ...]

    @property
    def enough(self) -> bool:
        """
        Whether the connections say something: one at least is to such a pod, and the
        nodes of the others were asked. A pod that only calls others never has one.
        """
        if not self.unseen:
            return True
        return self.reached > 0 and all(each.watched for each in self.unseen)


def coverage(nodes: Iterable[NodeFlows], now: Survey, proposed: Survey) -> Coverage:
    """Of the pods of `now` those that are judged by another policy then."""
    nodes = tuple(nodes)
    watched = {each.node for each in nodes}
    reached = {flow.destination for each in nodes for flow, _ in each.flows}
    changed = [key for key in now.workloads if _changes(key, now, proposed)]
    unseen = [now.workloads[key] for key in changed if key not in reached]
    return Coverage(
        len(changed) - len(unseen),
        tuple(Unseen(pod.key, pod.node, pod.node in watched) for pod in unseen),
    )


def _changes(key: str, now: Survey, proposed: Survey) -> bool:
    before, after = now.workloads[key], proposed.workloads.get(key)
    if after is None:
        return before.meshed
    if not (before.meshed and after.meshed):
        return before.meshed is not after.meshed
    return now.policy_of(before) != proposed.policy_of(after)
