"""What everything that carries bytes in this worker shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.proxy.buffers import BufferPool
from agent.proxy.bulk import Bulk
from agent.proxy.reactor import Reactor


@dataclass(frozen=True, slots=True)
class DataPath:
    """
    The loop that tells of readiness, the buffers that bytes pass through, and whether
    they pass in bulk on any tunnel.
    """

    reactor: Reactor = field(default_factory=Reactor)
    buffers: BufferPool = field(default_factory=BufferPool)
    bulk: Bulk = field(default_factory=Bulk)
