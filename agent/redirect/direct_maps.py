"""
Typed access to the maps of direct connections (bpf/maps.h). Only control has it.

Ids of verdicts and of services are never used twice, not even by the agent that comes
next: what rests on an old one can not pass for something new.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from agent.addresses import SocketAddress
from agent.errors import KernelError
from agent.redirect import records
from agent.redirect.pins import PinnedMap

_FIRST: Final = records.pack_u32(0)
_SERVICE_IDS: Final = 1 << 32  # a __u32


class DirectMaps:
    """The maps that same node, direct is made of; they belong to RedirectMaps."""

    def __init__(self, maps: Mapping[str, PinnedMap]) -> None:
        self._verdicts = maps["verdicts"]
        self._noted = maps["noted"]
        self._traces = maps["traces"]
        self._unrecorded = maps["unrecorded"]
        self._services = maps["services"]
        self._choices = maps["choices"]
        self._counts: dict[SocketAddress, tuple[int, tuple[SocketAddress, ...]]] = {}
        self._next_service = 1

    # Verdicts.

    def permit(
        self, netns: int, destination: SocketAddress, verdict: int, there: int
    ) -> None:
        """
        Connections from this namespace to there pass the agent by from now on, as
        long as they arrive in the namespace `there`.

        Raises: KernelError when the map is full; then the proxy carries them.
        """
        key = records.pack_pair(netns, destination)
        self._verdicts.put(key, records.pack_grant(verdict, there))

    def withdraw(self, netns: int, destination: SocketAddress) -> None:
        """No new ones, also of those that were noted; those that are open stay."""
        self._verdicts.delete(records.pack_pair(netns, destination))

    def verdicts(self) -> dict[tuple[int, SocketAddress], int]:
        """The id of every verdict, by namespace and destination."""
        return {
            records.unpack_pair(key): records.unpack_grant(value)[0]
            for key, value in self._verdicts.items()
        }

    def forget_notes(self, verdicts: Collection[int]) -> None:
        """Drop what was noted under verdicts that are gone; it was void already."""
        for key, value in self._noted.items():
            if records.unpack_note(value)[1] in verdicts:
                self._noted.delete(key)

    # Traces.

    def glances(self) -> list[records.Glance]:
        """Every direct connection; closed ones stay until they are forgotten."""
        return [
            records.Glance(records.unpack_cookie(key), value)
            for key, value in self._traces.batches()
        ]

    def traces(self) -> Iterator[tuple[int, records.Trace]]:
        """The same, read whole, by the socket's cookie."""
        return ((each.cookie, each.trace()) for each in self.glances())

    def forget_trace(self, cookie: int) -> bool:
        """Drop a connection that is going to be told of; whether it was there."""
        return self._traces.delete(records.pack_cookie(cookie))

    def unrecorded(self) -> int:
        """How many connections found `traces` full, since the programs were loaded."""
        return records.unpack_cookie(self._unrecorded.get(_FIRST) or bytes(8))

    # Services.

    def serve(self, wanted: Mapping[SocketAddress, Sequence[SocketAddress]]) -> None:
        """
        Make these the services whose endpoint the connect hook chooses.

        A changed service gets a new id, whose choices are there before it is: at no
        moment are choices of two sets mixed. Raises: KernelError when a map is full;
        then the rest of the services goes through the proxy.
        """
        for at in [at for at in self._counts if at not in wanted]:
            self._drop(at)
        for at, endpoints in wanted.items():
            held = self._counts.get(at)
            if held is None or held[1] != tuple(endpoints):
                self._replace(at, tuple(endpoints))

    def forget_services(self) -> None:
        """Drop what an earlier agent left."""
        for key in self._services:
            number, _ = records.unpack_service(self._services.get(key) or bytes(8))
            self._next_service = max(self._next_service, number + 1)
            self._services.delete(key)
        for key in self._choices:
            self._choices.delete(key)

    def _replace(self, at: SocketAddress, endpoints: tuple[SocketAddress, ...]) -> None:
        old = self._counts.get(at)
        number = self._next_service % _SERVICE_IDS
        self._next_service += 1
        try:
            for index, endpoint in enumerate(endpoints):
                self._choices.put(
                    records.pack_choice(number, index), records.pack_address(endpoint)
                )
            self._services.put(
                records.pack_address(at), records.pack_service(number, len(endpoints))
            )
        except KernelError:
            self._drop_choices(number, len(endpoints))
            # The old choices are out of date: better none.
            with contextlib.suppress(KernelError):
                self._drop(at)
            raise
        self._counts[at] = (number, endpoints)
        if old is not None:
            self._drop_choices(old[0], len(old[1]))

    def _drop(self, at: SocketAddress) -> None:
        self._services.delete(records.pack_address(at))
        number, endpoints = self._counts.pop(at, (0, ()))
        self._drop_choices(number, len(endpoints))

    def _drop_choices(self, number: int, count: int) -> None:
        for index in range(count):
            self._choices.delete(records.pack_choice(number, index))
