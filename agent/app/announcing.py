"""Who is told that a pod of this node joined the mesh, or could not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from agent.kube.announcer import Advice
from agent.policy.problem import Problem
from agent.workload.model import Workload


class Announcer(Protocol):
    """Takes news at once, and passes them on by itself."""

    def in_mesh(self, captured: Iterable[str], wanted: Iterable[str]) -> None:
        """These pods, by uid, are captured, and those are to be: no others."""

    def judged(self, problems: Sequence[Problem]) -> None:
        """What is wrong with policies, by their titles: all of it."""

    def advise(self, advice: Advice) -> None:
        """`advice` finds policies without effect; given once, asked now and then."""

    def captured(self, pod: Workload, note: str) -> None:
        """A pod has joined the mesh."""

    def refused(self, pod: Workload, note: str) -> None:
        """A pod cannot join the mesh."""


class Silent:
    """With manifests: nobody writes into somebody's files (DECISIONS.md, 11)."""

    def in_mesh(self, captured: Iterable[str], wanted: Iterable[str]) -> None:
        """Nothing to do."""

    def judged(self, problems: Sequence[Problem]) -> None:
        """Nothing to do."""

    def advise(self, advice: Advice) -> None:
        """Nothing to do."""

    def captured(self, pod: Workload, note: str) -> None:
        """Nothing to do."""

    def refused(self, pod: Workload, note: str) -> None:
        """Nothing to do."""
