"""
One authority's state in several places: which of two holds. Pure.

Replicas keep the state each in its own directory, and one copy where all can see it.
That copy changes only from the version that was read of it, so changes come one after
another: who is late takes what is there, and makes a change of its own again from that.
"""

from __future__ import annotations

from enum import Enum

from agent.identity.state import AuthorityState


class Step(Enum):
    """What to do so that both hold the same."""

    NOTHING = "both hold the same"
    PUBLISH = "ours follows the shared one"
    TAKE = "the shared one holds"


def next_step(ours: AuthorityState, shared: AuthorityState | None) -> Step:
    """
    Compare by version; of two with one version the shared one was there first.

    A shared state that is gone is published again: keys and pods are here, and nobody
    is helped by an authority that stops for want of a copy.
    """
    if shared is None or ours.version > shared.version:
        return Step.PUBLISH
    return Step.NOTHING if ours == shared else Step.TAKE
