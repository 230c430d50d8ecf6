"""Who is where, as of the latest word from control; shared by all of a worker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.addresses import IPAddress
from agent.errors import Refused
from agent.identity.spiffe import SpiffeId
from agent.proxy.instructions import WorldChanged, WorldUpdated
from agent.workload.delta import Snapshot, apply
from agent.workload.directory import Directory, Peer

# Of each a client waits for the new certificate, not more; the latest are kept.
MAX_RENAMED: Final = 1024


class NotYet(Refused):
    """A connection came before this worker knew the world."""


@dataclass(slots=True, eq=False)
class World:
    """
    The directory in force; control's next word makes a new one of it.

    None before the first word: who knows nobody must not take everybody for the
    outside.
    """

    directory: Directory | None = None
    snapshot: Snapshot | None = None
    asked: bool = False
    """Whether control was asked for the whole world and has not sent it yet."""
    _renamed: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def take(self, told: WorldUpdated | WorldChanged) -> None:
        """
        Be what control says, in one step.

        Raises: VersionGap when it is a change of another version; then everything
        stays as it was.
        """
        if isinstance(told, WorldUpdated):
            self.snapshot, self.asked = told.snapshot, False
        else:
            self._look_for_renamed(told.delta.peers.puts)
            self.snapshot = apply(self.snapshot or Snapshot(version=-1), told.delta)
        self.directory = self.snapshot.directory

    def _look_for_renamed(self, puts: Mapping[IPAddress, Peer]) -> None:
        known = self.directory.peers if self.directory else {}
        for ip, peer in puts.items():
            before = known.get(ip)
            if before and before.uid == peer.uid and before.identity != peer.identity:
                self.note_renamed(peer.uid)

    def note_renamed(self, uid: str) -> None:
        """The identity of a pod changed."""
        self._renamed[uid] = None
        if len(self._renamed) > MAX_RENAMED:
            self._renamed.popitem(last=False)

    def was_renamed(self, uid: str) -> bool:
        """Whether a pod's identity changed lately, while we knew it."""
        return uid in self._renamed

    def known(self) -> Directory:
        """The directory. Raises: NotYet."""
        if self.directory is None:
            raise NotYet("control has not told yet who is in the mesh")
        return self.directory

    def name_at(self, ip: IPAddress) -> str | None:
        """The pod that holds an address, whoever it says it is; None for none."""
        peer = self.directory.peer_at(ip) if self.directory else None
        return peer.name if peer else None

    def name_of(self, identity: SpiffeId, ip: IPAddress) -> str | None:
        """
        What to call a peer: its pod if the directory knows it under this identity at
        this address, else its ServiceAccount (a certificate names no pod).
        """
        peer = self.directory.peer_at(ip) if self.directory else None
        if peer is not None and peer.identity == identity:
            return peer.name
        if identity.namespace is None or identity.service_account is None:
            return None
        return f"{identity.namespace}/{identity.service_account}"
