"""
Typed access to the maps of bpf/maps.h, for control and for the proxy workers.

Every call is one or two system calls on descriptors of our own, so it may stand in
the path of a connection; any number of processes may have the maps open.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.addresses import (
    ClientAddress,
    IPAddress,
    OriginalDestination,
    SocketAddress,
    packed_ip,
)
from agent.errors import KernelError
from agent.redirect import records
from agent.redirect.direct_maps import DirectMaps
from agent.redirect.layout import PinLayout
from agent.redirect.pins import PinnedMap

_PRESENT: Final = records.pack_u32(1)
_FIRST: Final = records.pack_u32(0)


class RedirectMaps:
    """The pinned maps of one set of programs. Close it, or let the process end."""

    def __init__(self, maps: dict[str, PinnedMap]) -> None:
        self._maps = maps
        self._enrolled = maps["enrolled"]
        self._passage = maps["passage"]
        self._originals = maps["originals"]
        self._clients = maps["clients"]
        self._listeners = maps["listeners"]
        self._judged = maps["judged"]
        self._about = maps["about"]
        self.direct = DirectMaps(maps)

    @classmethod
    def open(cls, pins: Path) -> RedirectMaps:
        """
        Raises: KernelError naming the pin that is missing, or the map whose records
        have another size than this agent's.
        """
        layout = PinLayout(pins)
        maps: dict[str, PinnedMap] = {}
        try:
            for name, sizes in records.MAP_SIZES.items():
                maps[name] = PinnedMap.open(layout.maps / name)
                if maps[name].sizes != sizes:
                    raise KernelError(
                        f"{layout.maps / name}: records of {maps[name].sizes} bytes,"
                        f" expected {sizes}; the programs are of another version"
                    )
        except BaseException:
            for opened in maps.values():
                opened.close()
            raise
        return cls(maps)

    def close(self) -> None:
        for opened in self._maps.values():
            opened.close()

    def digest(self) -> bytes:
        """What made the programs (`layout.fingerprint`); zeros before it is told."""
        return self._about.get(_FIRST) or bytes(records.DIGEST_BYTES)

    def ids(self) -> dict[str, int]:
        """The kernel's id of each map that is open here."""
        return {name: opened.id for name, opened in self._maps.items()}

    # Passage: the agent's own connects.

    def allow(self, socket_cookie: int) -> None:
        """
        Leave this socket's next connects alone.

        Raises: KernelError when the map is full; the socket must then not connect,
        for it would be redirected to ourselves.
        """
        self._passage.put(records.pack_cookie(socket_cookie), _PRESENT)

    def disallow(self, socket_cookie: int) -> None:
        """Forget `allow`, also one that never was."""
        self._passage.delete(records.pack_cookie(socket_cookie))

    # Outbound: what a client meant.

    def take_original(
        self, netns_cookie: int, client: ClientAddress
    ) -> OriginalDestination | None:
        """
        Where a redirected client meant to go, told once.

        `client` is the address that our own accept returned. None for a connection
        that was not redirected: refuse it.
        """
        found = self._originals.take(records.pack_flow(netns_cookie, client))
        if found is None:
            return None
        return OriginalDestination(records.unpack_address(found))

    # Inbound: who a server shall see.

    def announce(
        self, netns_cookie: int, source: SocketAddress, client: ClientAddress
    ) -> None:
        """
        A connection from `source` shall appear in the application as from `client`.

        Bind the socket to `source` first and without SO_REUSEADDR, so that nobody
        else in the pod can have that source. Raises: KernelError.
        """
        key = records.pack_flow(netns_cookie, source)
        self._clients.put(key, records.pack_address(client))

    def withdraw(self, netns_cookie: int, source: SocketAddress) -> None:
        """Forget `announce`, also one that the kernel has taken already."""
        self._clients.delete(records.pack_flow(netns_cookie, source))

    # Enrolment.

    def enrol(self, netns_cookie: int, addresses: Sequence[IPAddress]) -> None:
        """From now on this namespace's connects are redirected. Raises: KernelError."""
        key = records.pack_cookie(netns_cookie)
        self._enrolled.put(key, records.pack_pod(addresses))

    def dismiss(self, netns_cookie: int) -> None:
        """From now on this namespace's connects go where they want."""
        self._enrolled.delete(records.pack_cookie(netns_cookie))

    def enrolled(self) -> dict[int, tuple[IPAddress, ...]]:
        """Every enrolled namespace's cookie and its pod's addresses."""
        return {
            records.unpack_cookie(key): records.unpack_pod(value)
            for key, value in self._enrolled.items()
        }

    def is_enrolled(self, netns_cookie: int, addresses: Sequence[IPAddress]) -> bool:
        """Whether the entry is there, and as `enrol` would write it."""
        key = records.pack_cookie(netns_cookie)
        return self._enrolled.get(key) == records.pack_pod(addresses)

    # The start gate.

    def judge(self, netns_cookie: int) -> None:
        """This namespace is outside the mesh and may connect. Raises: KernelError."""
        self._judged.put(records.pack_cookie(netns_cookie), _PRESENT)

    def unjudge(self, netns_cookie: int) -> None:
        """Forget `judge`, also one that never was."""
        self._judged.delete(records.pack_cookie(netns_cookie))

    def judged(self) -> set[int]:
        """Every namespace that was judged."""
        return {records.unpack_cookie(key) for key in self._judged}

    def listen(self, address: IPAddress, listener_fd: int) -> None:
        """
        What comes from outside to `address` goes to this listener.

        The kernel forgets it with the listener. Raises: KernelError, also for a
        socket that does not listen.
        """
        self._listeners.put(packed_ip(address), records.pack_cookie(listener_fd))

    def listener_at(self, address: IPAddress) -> int | None:
        """The socket cookie of the listener that `listen` named, if there is one."""
        found = self._listeners.get(packed_ip(address))
        return None if found is None else records.unpack_cookie(found)

    def unlisten(self, address: IPAddress) -> None:
        """Forget `listen`, also one that never was."""
        self._listeners.delete(packed_ip(address))

    def forget_connections(self) -> None:
        """Drop what connections left behind: only while no worker has any."""
        for notes in (self._passage, self._originals, self._clients):
            for key in notes:
                notes.delete(key)
