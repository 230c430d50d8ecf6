"""
What is wrong with a connection, from the reports of both its ends. Pure.

An end of file is a promise: everything arrived. A reset promises nothing, but must
have a cause: the plan of either end, or a policy that was taken back meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.soak.ends import End
from tests.soak.plan import Plan

# A changed policy file is enforced within a quarter of a second on a quiet machine.
ENFORCED_SECONDS: Final = 3.0
# From opening to being refused, on a machine that is anything but quiet.
REFUSED_SECONDS: Final = 1.5


@dataclass(slots=True)
class Revocation:
    """
    One path was not permitted from `since` (when the file was written) on; `slowness`
    is that of the machine, 1 for a usual one.
    """

    path: str
    since: float
    until: float = math.inf
    slowness: float = 1.0

    def excuses(self, end: End) -> bool:
        """Whether a connection that lived then may have been reset or refused."""
        until = self.until + self.slowness * ENFORCED_SECONDS
        return end.opened <= until and end.ended >= self.since

    def outlived(self, end: End) -> float:
        """For how many seconds a connection lived while it must not."""
        refused = end.opened + self.slowness * REFUSED_SECONDS
        enforced = self.since + self.slowness * ENFORCED_SECONDS
        return min(end.ended, self.until) - max(refused, enforced)


@dataclass(slots=True)
class Disturbance:
    """
    A fault that lasted from `since` to `until`, when all was well again: every path may
    have seen resets and refusals by it, and nothing worse.
    """

    name: str
    since: float
    until: float = math.inf
    slowness: float = 1.0

    def excuses(self, end: End) -> bool:
        """Whether a connection that lived then may have been reset or refused."""
        until = self.until + self.slowness * REFUSED_SECONDS
        return end.opened <= until and end.ended >= self.since


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection: what was planned, and what its ends saw."""

    number: int
    path: str
    plan: Plan
    client: End | None
    server: End | None

    @property
    def ends(self) -> list[End]:
        """The reports that there are."""
        return [end for end in (self.client, self.server) if end]


def differences(
    connection: Connection,
    revocations: Sequence[Revocation] = (),
    disturbances: Sequence[Disturbance] = (),
) -> list[str]:
    """Everything that is not as it should be, as lines for a person."""
    its = [each for each in revocations if each.path == connection.path]
    found = [
        *_errors(connection),
        *_directions(connection),
        *_resets(connection, [*its, *disturbances]),
        *_outlived(connection, its),
    ]
    name = f"{connection.path} {connection.number} ({connection.plan.kind})"
    return [f"{name}: {line}" for line in found]


def anonymous(end: End) -> list[str]:
    """What is wrong with a connection that ended before it said which one it is."""
    if end.outcome == "reset":
        return []
    return [f"{end.path}: without introduction: {end.outcome}: {end.detail}"]


def _errors(connection: Connection) -> Iterator[str]:
    if connection.client is None:
        yield "the client did not report"
    for end in connection.ends:
        if end.outcome in ("wrong byte", "stuck", "failed"):
            yield f"{end.role}: {end.outcome}: {end.detail}"


def _directions(connection: Connection) -> Iterator[str]:
    client, server = connection.client, connection.server
    plan = connection.plan
    for sender, receiver, total in (
        (client, server, plan.client.total),
        (server, client, plan.server.total),
    ):
        if receiver is None:
            continue
        where = f"{receiver.role} received {receiver.received} of {total} bytes"
        if sender and receiver.received > sender.sent:
            yield f"{where}, more than the {sender.sent} that were sent"
        if not receiver.saw_end:
            continue
        if sender is None or not sender.shut_down:
            yield f"{where} and a clean end that nobody sent"
        elif not receiver.received == sender.sent == total:
            yield f"{where} and a clean end; {sender.sent} were sent"
        elif receiver.received_hash != sender.sent_hash:
            yield f"{where} with another hash than what was sent"


def _resets(
    connection: Connection, its: Sequence[Revocation | Disturbance]
) -> Iterator[str]:
    ends = connection.ends
    planned = any(end.outcome == "own reset" for end in ends)
    excused = any(each.excuses(end) for each in its for end in ends)
    for end in ends:
        if end.outcome in ("reset", "refused") and not (planned or excused):
            yield (
                f"{end.role}: {end.outcome} without cause after {end.received} bytes "
                f"read, {end.sent} written: {end.detail}"
            )


def _outlived(connection: Connection, its: Sequence[Revocation]) -> Iterator[str]:
    for end in connection.ends:
        for each in its:
            if (seconds := each.outlived(end)) > 0:
                yield f"{end.role}: lived {seconds:.1f} s longer than its permit"
