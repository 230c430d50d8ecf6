"""
What happens to each captured pod after a read of the objects (pure).

A captured network namespace has its redirect until a complete read says that no pod of
the mesh is in it. A pod that changes is changed in place. A pod that took over a
namespace takes over its capture; one that is in another namespace now, at the same path
or not, is captured there, and the earlier namespace given up. What cannot be served and
must not be released is left: redirected, and refused, as after the end of an agent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from agent.workload.model import Workload

Inode = tuple[int, int]
"""Device and inode: which network namespace it is, whatever its path."""


@dataclass(frozen=True, slots=True)
class Held:
    """A captured pod: as it was then, and the namespace that is captured."""

    pod: Workload
    inode: Inode


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps by pod uid, in this order; `pods` are as they are to be captured."""

    pods: Mapping[str, Workload]
    release: frozenset[str]
    leave: frozenset[str]
    hand_over: Mapping[str, str]
    """To which pod a capture passes, in place; that one is then among `capture`."""
    change: frozenset[str]
    """Of these, which are among `capture` too, the addresses that go go first."""
    capture: tuple[str, ...]


def plan(
    held: Mapping[str, Held],
    pods: Mapping[str, Workload],
    unplaced: Collection[str],
    inode_at: Callable[[str | None], Inode | None],
    speaks: Callable[[Workload], bool] = lambda _: True,
    *,
    complete: bool,
) -> Plan:
    """
    What makes the captures `held` those of `pods`.

    `unplaced` are enrolled pods whose namespace is not known. `inode_at` tells which
    namespace is at a path now, None for none. `speaks`: whether there is a certificate
    for a pod's identity. `complete`: all objects were read.
    """
    pods = {
        uid: _as_served(held[uid].pod, pod, speaks) if uid in held else pod
        for uid, pod in pods.items()
    }
    gone = held.keys() - pods.keys()
    moved = {
        uid
        for uid in held.keys() & pods.keys()
        if inode_at(pods[uid].netns) not in (None, held[uid].inode)
    }
    staying = held.keys() - gone - moved
    fresh = {inode_at(pods[uid].netns): uid for uid in pods if uid not in staying}
    hand_over = {
        uid: fresh[held[uid].inode] for uid in gone if held[uid].inode in fresh
    }
    claims = Counter(inode_at(pod.netns) for pod in pods.values())
    # Two are said to be in one namespace: where this one is, is not known.
    claims.update(held[uid].inode for uid in held.keys() & set(unplaced))
    lost = {uid for uid in moved if claims[inode_at(pods[uid].netns)] > 1}
    given_up = (gone - hand_over.keys()) | moved
    may_go = {
        uid
        for uid in given_up
        if complete
        and uid not in lost
        and uid not in unplaced
        and held[uid].inode not in fresh
    }
    change = {uid for uid in staying if _facts(held[uid].pod) != _facts(pods[uid])}
    return Plan(
        pods,
        release=frozenset(may_go),
        leave=frozenset(given_up - may_go),
        hand_over=hand_over,
        change=frozenset(change),
        capture=tuple(uid for uid in pods if uid not in staying - change),
    )


def _as_served(
    was: Workload, pod: Workload, speaks: Callable[[Workload], bool]
) -> Workload:
    """
    Its ServiceAccount changed: it has the old one until there is a certificate for the
    new one, so that it is never without.
    """
    old = replace(pod, service_account=was.service_account)
    return pod if old == pod or speaks(pod) or not speaks(old) else old


def _facts(pod: Workload) -> tuple[object, ...]:
    """What a capture rests on."""
    return pod.uid, pod.key, pod.netns, pod.addresses, pod.service_account
