"""What everything that carries bytes in this worker shares."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from agent.proxy.buffers import BufferPool
from agent.proxy.bulk import Bulk
from agent.proxy.reactor import Reactor
from agent.proxy.share import Accounts
from agent.proxy.turns import Turns


@dataclass(frozen=True, slots=True)
class DataPath:
    """
    The loop that tells of readiness, the buffers that bytes pass through, whether they
    pass in bulk on any tunnel, and who has used the thread how much.
    """

    reactor: Reactor = field(default_factory=Reactor)
    buffers: BufferPool = field(default_factory=BufferPool)
    bulk: Bulk = field(default_factory=Bulk)
    accounts: Accounts = field(default_factory=Accounts)
    turns: Turns = field(default_factory=Turns)

    async def run(self) -> None:
        """Forever: serve what is ready, and let tasks take their turns."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.turns.run)
            nursery.start_soon(self.reactor.run)
