"""
Tells the ledger of direct connections, which no worker sees: the kernel traces them.

`collect` once a second tells what opened and what ended; `count`, when somebody asks,
what the open ones have carried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, Protocol

import trio

from agent.app.traces import Story, changed, counted, name_of
from agent.errors import KernelError
from agent.log import logger
from agent.redirect.inet_diag import DiagSocket, TcpState
from agent.redirect.records import Glance, Trace
from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    TrafficCounted,
)
from agent.workload.direct import Grounds, Revocation
from agent.workload.directory import Directory

log = logger()

# So many traces are looked at before others have their turn: some milliseconds.
TURN: Final = 100

Message = (
    ConnectionOpened
    | ConnectionChanged
    | ConnectionClosed
    | ConnectionRefused
    | TrafficCounted
)
Note = Callable[[str, str, str], None]
"""Takes an event's kind, object and words."""


class TraceMaps(Protocol):
    """The part of `redirect.direct_maps.DirectMaps` that is about traces."""

    def glances(self) -> list[Glance]: ...
    def forget_trace(self, cookie: int) -> bool: ...
    def unrecorded(self) -> int: ...


class Tracer:
    """What is known of direct connections, by the id of the verdict they rest upon."""

    def __init__(
        self,
        maps: TraceMaps,
        list_sockets: Callable[[int], list[DiagSocket]],
        note: Note,
        tell: Callable[[Message], None],
    ) -> None:
        self._maps = maps
        self._list_sockets = list_sockets
        self._note = note
        self._tell = tell
        self._grounds: dict[int, Grounds] = {}
        self._revocations: dict[int, Revocation] = {}
        self._rejudged: set[int] = set()
        self._opened: set[int] = set()
        self._unrecorded = maps.unrecorded()
        # One at a time: what was read before a turn may be told by another in it.
        self._reading = trio.Lock()

    @property
    def unrecorded(self) -> int:
        """How many connections found no room in the kernel's record."""
        return self._unrecorded

    def granted(self, verdict: int, grounds: Grounds) -> None:
        """Connections under this verdict are those of these pods."""
        before = self._grounds.get(verdict, grounds)
        if (before.rule, before.audit) != (grounds.rule, grounds.audit):
            self._rejudged.add(verdict)
        self._grounds[verdict] = grounds

    def revoked(self, verdict: int, revocation: Revocation) -> None:
        """Connections under this verdict end, for this reason."""
        self._revocations[verdict] = revocation

    async def collect(self, directory: Directory, verdicts: Collection[int]) -> None:
        """
        Tell what opened and what ended since the last time.

        `verdicts` are the ids still in use: what is known of others goes with the last
        of their traces. Others have their turn now and then: there may be thousands.
        """
        async with self._reading:
            await self._collect(directory, verdicts)

    async def _collect(self, directory: Directory, verdicts: Collection[int]) -> None:
        known = self._grounds.keys() | self._revocations.keys()
        present = set(verdicts)
        rejudged, self._rejudged = self._rejudged, set()
        for number, glance in enumerate(self._maps.glances(), 1):
            present.add(glance.verdict)
            if glance.verdict in rejudged and glance.cookie in self._opened:
                self._judged_again(glance)
            if glance.is_closed or glance.cookie not in self._opened:
                self._look(glance, directory)
            if number % TURN == 0:
                await trio.lowlevel.checkpoint()
        for verdict in known - present:
            self._grounds.pop(verdict, None)
            self._revocations.pop(verdict, None)
        self._tell_unrecorded()

    def _look(self, glance: Glance, directory: Directory) -> None:
        story = self._story(glance.cookie, glance.trace(), directory)
        if story.trace.closed is None:
            self._open(story)
        else:
            self._end(story, story.trace.closed)

    async def count(self, directory: Directory, namespaces: Mapping[int, int]) -> None:
        """
        Tell what every open connection has carried; `namespaces` are open, by cookie.

        One that has a trace and no socket ended while nobody watched: another program
        on the cgroup may take our notice away.
        """
        async with self._reading:
            await self._count(directory, namespaces)

    async def _count(self, directory: Directory, namespaces: Mapping[int, int]) -> None:
        asked = time.monotonic()
        live = {g.cookie: g.netns for g in self._maps.glances() if not g.is_closed}
        found, listed = self._sockets_in(namespaces, live.values())
        for number, glance in enumerate(self._maps.glances(), 1):
            if glance.is_closed or glance.cookie not in live:
                continue
            self._count_one(glance, found, listed, directory, asked)
            if number % TURN == 0:
                await trio.lowlevel.checkpoint()

    def _count_one(
        self,
        glance: Glance,
        found: Mapping[int, DiagSocket],
        listed: Collection[int],
        directory: Directory,
        asked: float,
    ) -> None:
        cookie = glance.cookie
        if cookie in found:
            if cookie in self._opened:
                self._tell(counted(name_of(cookie), found[cookie]))
            return
        if glance.netns in listed:
            self._end(self._story(cookie, glance.trace(), directory), asked)

    def _sockets_in(
        self, namespaces: Mapping[int, int], wanted: Iterable[int]
    ) -> tuple[dict[int, DiagSocket], set[int]]:
        """Sockets by cookie, and the namespaces that could be asked."""
        found: dict[int, DiagSocket] = {}
        listed: set[int] = set()
        for netns in set(wanted):
            if netns in namespaces:
                try:
                    sockets = self._list_sockets(namespaces[netns])
                except KernelError as error:
                    log.warning("sockets not listed", error=str(error))
                    continue
                found |= {each.cookie: each for each in sockets}
                listed.add(netns)
        return found, listed

    def _story(self, cookie: int, trace: Trace, directory: Directory) -> Story:
        service = directory.service_at(trace.meant)
        return Story(
            cookie=cookie,
            trace=trace,
            zero=time.time() - time.monotonic(),
            grounds=self._grounds.get(trace.verdict),
            service=service.name if service else None,
            revocation=self._revocations.get(trace.verdict),
        )

    def _open(self, story: Story) -> None:
        if story.cookie not in self._opened and story.trace.state != TcpState.SYN_SENT:
            self._opened.add(story.cookie)
            self._tell(story.opened())

    def _end(self, story: Story, closed: float) -> None:
        if not self._maps.forget_trace(story.cookie):
            return
        self._open(story)
        self._opened.discard(story.cookie)
        message = story.ended(closed)
        self._tell(message)
        _log_line(story, message)

    def _judged_again(self, glance: Glance) -> None:
        """Policy changed about an open connection, which goes on."""
        grounds = self._grounds[glance.verdict]
        id = name_of(glance.cookie)
        self._tell(changed(id, grounds))
        if grounds.audit:
            text = (
                f"{grounds.source.identity}, direct, {id}: let in, would be denied by "
                f"{grounds.audit}"
            )
            self._note("audit", grounds.destination.name, text)

    def _tell_unrecorded(self) -> None:
        lost = self._maps.unrecorded() - self._unrecorded
        if lost > 0:
            self._unrecorded += lost
            text = f"{lost} direct connections were not recorded: the map was full"
            self._note("unrecorded", "same_node", text)


def _log_line(story: Story, message: ConnectionClosed | ConnectionRefused) -> None:
    """One line per connection, at its end, as the workers write it."""
    grounds = story.grounds
    facts: dict[str, object] = {
        "session": story.id,
        "direction": "outbound",
        "path": "direct",
        "source": grounds.source.name if grounds else str(story.trace.source),
        "destination": grounds.destination.name if grounds else str(story.trace.meant),
        "outcome": message.outcome,
    }
    if isinstance(message, ConnectionClosed):
        facts["sent_bytes"] = message.sent_bytes
        facts["received_bytes"] = message.received_bytes
    if message.reason is None:
        log.info("connection closed", **facts)
    else:
        log.warning(
            "connection closed", reason=message.reason, rule=message.rule, **facts
        )
