"""
Joins the two reports of each connection, has them judged, and adds everything up.

Sans-IO: reports come in by `take`, what is wrong goes into `differences`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.patience import patient
from tests.soak import judge
from tests.soak.ends import End
from tests.soak.judge import Connection, Disturbance, Revocation
from tests.soak.plan import Limits, connection_key, planned

# The first ones tell what is wrong; a broken build would fill the memory with the rest.
MOST_TOLD: Final = 200


# From the client's connect to the server's accept.
NAMELESS_SECONDS: Final = patient(10.0)


@dataclass(slots=True)
class Total:
    """What went over one path, as its ends saw it."""

    connections: int = 0
    completed: int = 0
    own_resets: int = 0
    """By the plan, of either end."""
    resets_seen: int = 0
    refused: int = 0
    up_bytes: int = 0
    """Received and checked by the server; `down_bytes` by the client."""
    down_bytes: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, connection: Connection) -> None:
        """Count a connection whose ends have reported."""
        outcomes = [end.outcome for end in connection.ends]
        self.connections += 1
        self.completed += outcomes == ["end", "end"]
        self.own_resets += outcomes.count("own reset")
        self.resets_seen += outcomes.count("reset")
        self.refused += outcomes.count("refused")
        self.up_bytes += connection.server.received if connection.server else 0
        self.down_bytes += connection.client.received if connection.client else 0
        kind = connection.plan.kind
        self.kinds[kind] = self.kinds.get(kind, 0) + 1


@dataclass(slots=True)
class Ledger:
    """All connections of a run."""

    seed: int
    limits: Limits
    totals: dict[str, Total]
    """By path; a report of another path is an error of the load itself."""
    revocations: list[Revocation] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """The first ones, as lines; `count` is how many there were."""
    count: int = 0
    nameless_resets: int = 0
    """Connections that were reset before they had said which they were."""
    revoked_live: int = 0
    slowest_revocation: float = 0.0
    _nameless: list[End] = field(default_factory=list)
    _waiting: dict[tuple[str, int], list[End]] = field(default_factory=dict)

    def take(self, report: End | str) -> None:
        """One end's report, or what a program printed instead of one."""
        if isinstance(report, str):
            self.differ(f"the load said: {report}")
        elif report.number is None:
            self.nameless_resets += report.outcome == "reset"
            if lines := judge.anonymous(report):
                # Who it was is known once nobody else can still claim the port.
                self._nameless.append(report)
                self._differ_all(lines)
        else:
            ends = self._waiting.setdefault((report.path, report.number), [])
            ends.append(report)
            if len(ends) == 2:
                self._close(report.path, report.number)

    def finish(self) -> None:
        """Judge those of whom only one end has reported; nothing more will come."""
        for nameless in self._nameless:
            for (path, number), (end, *_) in self._waiting.items():
                same = path in nameless.path and end.client_port == nameless.client_port
                if same and abs(end.opened - nameless.opened) < NAMELESS_SECONDS:
                    who = f"{path} {number}: its client: {end.outcome} {end.detail}"
                    sent = f"{end.sent} bytes sent, {end.received} received"
                    self.differences.append(f"that nameless one was {who}, {sent}")
        for path, number in list(self._waiting):
            self._close(path, number)

    def differ(self, line: str) -> None:
        """Note a difference."""
        self.count += 1
        if len(self.differences) < MOST_TOLD:
            self.differences.append(line)

    @property
    def connections(self) -> int:
        """How many have been judged."""
        return sum(total.connections for total in self.totals.values())

    @property
    def received_bytes(self) -> int:
        """How many bytes have been checked."""
        return sum(each.up_bytes + each.down_bytes for each in self.totals.values())

    def _close(self, path: str, number: int) -> None:
        ends = self._waiting.pop((path, number))
        roles = [end.role for end in ends]
        if len(roles) != len(set(roles)):
            self.differ(f"{path} {number}: two reports of the {roles[0]}")
        plan = planned(connection_key(self.seed, path, number), self.limits)
        client = next((end for end in ends if end.role == "client"), None)
        server = next((end for end in ends if end.role == "server"), None)
        connection = Connection(number, path, plan, client, server)
        self.totals[path].add(connection)
        self._differ_all(
            judge.differences(connection, self.revocations, self.disturbances)
        )
        if client:
            self._note_revoked(client)

    def _note_revoked(self, client: End) -> None:
        """How long after a policy's change a live connection was reset by it."""
        for each in self.revocations:
            live = client.opened < each.since <= client.ended < each.until
            if each.path == client.path and live and client.outcome == "reset":
                self.revoked_live += 1
                took = client.ended - each.since
                self.slowest_revocation = max(self.slowest_revocation, took)

    def _differ_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.differ(line)
