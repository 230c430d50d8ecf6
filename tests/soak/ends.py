"""What one end of a connection saw: one JSON object a line, from a pod to the soak."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

# The connection's first bytes: its number, and its key as proof of it.
INTRODUCTION_BYTES: Final = 16

Role = Literal["client", "server"]
Outcome = Literal[
    "end",  # both directions were shut down in order
    "own reset",  # this end threw it away, as planned
    "reset",  # ECONNRESET, EPIPE or ECONNABORTED
    "refused",  # the client could not connect
    "wrong byte",
    "stuck",
    "failed",  # any other error
]


@dataclass(frozen=True, slots=True)
class End:
    """
    One end's report. `number` is None where no introduction arrived.

    `sent` counts what was handed to the socket, of which a reset may have lost some.
    Times are CLOCK_MONOTONIC in seconds, the same for all processes of the machine.
    """

    role: Role
    path: str
    number: int | None
    outcome: Outcome
    detail: str = ""
    sent: int = 0
    sent_hash: str = ""
    shut_down: bool = False
    """Whether all was sent, and the writing side shut down."""
    received: int = 0
    received_hash: str = ""
    saw_end: bool = False
    """Whether the end of file was read, before any reset."""
    client_port: int = 0
    """The client's, as this end knows it; to find who a nameless one was."""
    opened: float = 0.0
    ended: float = 0.0

    def line(self) -> str:
        """As one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def parse(cls, line: str) -> End:
        """The reverse of `line`. Raises: ValueError for anything else."""
        try:
            return cls(**cast("dict[str, Any]", json.loads(line)))
        except TypeError as error:
            raise ValueError(f"not a report: {line[:120]!r}: {error}") from error


def introduction(number: int, key: int) -> bytes:
    """What a client sends before anything else."""
    return number.to_bytes(8) + key.to_bytes(8)


def introduced(data: bytes) -> tuple[int, int]:
    """Number and key."""
    return int.from_bytes(data[:8]), int.from_bytes(data[8:16])
