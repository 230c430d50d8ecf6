"""
Looks into the kernel: is the redirect of this node and of each pod what it should be?

Some system calls a pod and no wait, so it stands in the event loop, between two steps
of control: what it compares with does not change meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

from agent.addresses import IPAddress
from agent.errors import KernelError
from agent.redirect import bpffs, rtnetlink
from agent.redirect.bpf_info import link, object_id, program_maps
from agent.redirect.enrolment import Capture
from agent.redirect.facts import Attachment, NodeFacts, Pin, PodFacts
from agent.redirect.gate import Gate
from agent.redirect.held import Held, HeldPins, attachment, link_id
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import (
    CGROUP_HOOKS,
    GATE_HOOKS,
    NETNS_HOOK,
    PROBE_HOOK,
    PinLayout,
)
from agent.redirect.netns import inside, socket_cookie
from agent.redirect.pins import MissingPin, PinnedMap
from agent.redirect.records import unpack_cookie
from agent.redirect.tenure import Tenure


class KernelObserver:
    """The set of pins that one agent works with, and the links of its pods."""

    def __init__(
        self,
        pins: Path,
        cgroup: Path,
        maps: RedirectMaps,
        tenure: Tenure,
        gate: Gate | None = None,
    ) -> None:
        """
        Right after the programs were loaded and `maps` opened. Raises: KernelError,
        also where the programs use other maps than these.
        """
        self.layout = PinLayout(pins)
        self.cgroup = cgroup
        self.maps = maps
        self.tenure = tenure
        self.gate = gate
        self.held = HeldPins.open(self.layout)
        self._links: dict[Path, Held] = {}
        try:
            self._require_our_maps()
        except KernelError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the descriptors; pins and links stay."""
        self.held.close()
        for each in self._links.values():
            each.close()
        self._links.clear()

    def node(self) -> NodeFacts:
        """The node's part. Raises: KernelError, OSError."""
        target = _inode(self.cgroup)
        return NodeFacts(
            mounted=bpffs.on_bpffs(self.layout.root),
            pins=self.held.pins(),
            hooks={
                hook.name: attachment(
                    self.held.link(hook.name).fd,
                    self.held.program(hook.name).id,
                    target,
                )
                for hook in CGROUP_HOOKS
            },
            sideline=tuple(self._dead_sideline()),
            locked=self.tenure.is_intact(),
            unjudged=len(self.gate.missing()) if self.gate else 0,
        )

    def pod(self, capture: Capture, name: str, netns: str | None) -> PodFacts:
        """One captured pod's part; `netns` is the path that it was found by."""
        inode = os.fstat(capture.netns_fd).st_ino
        program = self.held.program(NETNS_HOOK.name).id
        paths = (
            self.layout.netns_link(capture.pin),
            self.layout.here_link(capture.pin),
        )
        inbound, here = (
            self._link_state(path, wanted, inode)
            for path, wanted in zip(paths, (program, 0), strict=True)
        )
        gone = netns if netns is not None and not Path(netns).exists() else None
        return PodFacts(
            uid=capture.uid,
            name=name,
            inbound=inbound,
            here=here,
            pins={f"links/{path.name}": self._pin_state(path) for path in paths},
            enrolled=self.maps.is_enrolled(capture.netns_cookie, capture.addresses),
            silent=tuple(self._silent(capture)),
            closed=tuple(_closed(capture)),
            gone=gone,
            moved=tuple(map(str, () if gone else _moved(capture))),
        )

    def forget_all_but(self, captures: Collection[Capture]) -> None:
        """Let go of the links of pods that were released."""
        known = {
            path
            for each in captures
            for path in (
                self.layout.netns_link(each.pin),
                self.layout.here_link(each.pin),
            )
        }
        for path in self._links.keys() - known:
            self._links.pop(path).close()

    def barred(self) -> set[int]:
        """Cookies of direct connections that no captured namespace let in."""
        opened = PinnedMap(os.dup(self.held.objects["maps/barred"].fd), "barred")
        try:
            return {unpack_cookie(key) for key in opened}
        finally:
            opened.close()

    def held_link(self, path: Path) -> Held | None:
        """The link of a pod that is or was pinned at `path`."""
        return self._links.get(path)

    def _require_our_maps(self) -> None:
        ours = {
            name: object_id(each.fd)
            for name, each in self.held.objects.items()
            if name.startswith("maps/")
        }
        opened = {f"maps/{name}": number for name, number in self.maps.ids().items()}
        used: set[int] = set()
        for hook in (*CGROUP_HOOKS, NETNS_HOOK):
            used |= program_maps(self.held.program(hook.name).fd)
        for name, number in opened.items():
            if ours[name] != number:
                raise KernelError(f"{self.layout.root / name}: replaced meanwhile")
        if not {ours["maps/enrolled"], ours["maps/listeners"]} <= used:
            raise KernelError(f"{self.layout.root}: its programs use other maps")

    def _link_state(self, path: Path, program: int, target: int) -> Attachment:
        """Of the pinned link where that is good, else of the one that we hold."""
        with contextlib.suppress(MissingPin, KernelError):
            pinned = Held.open(path, link_id)
            if attachment(pinned.fd, program, target) is Attachment.ATTACHED:
                self._hold(path, pinned)
            else:
                pinned.close()
        held = self._links.get(path)
        if held is None:
            return Attachment.DETACHED
        return attachment(held.fd, program, target)

    def _hold(self, path: Path, pinned: Held) -> None:
        held = self._links.get(path)
        if held is not None and held.id == pinned.id:
            pinned.close()
            return
        self._links[path] = pinned
        if held is not None:
            held.close()

    def _pin_state(self, path: Path) -> Pin:
        held = self._links.get(path)
        return held.at(path) if held else Pin.MISSING

    def _silent(self, capture: Capture) -> Iterator[str]:
        wanted = socket_cookie(capture.inbound)
        for address in capture.addresses:
            if self.maps.listener_at(address) != wanted:
                yield str(address)

    def _dead_sideline(self) -> Iterator[str]:
        """Links of the gate and of probes that are pinned and attached to nothing."""
        hooks = (PROBE_HOOK, *GATE_HOOKS)
        for path in (
            p for hook in hooks for p in self.layout.links.glob(f"{hook.name}-*")
        ):
            with contextlib.suppress(MissingPin):
                pinned = Held.open(path, link_id)
                try:
                    if not link(pinned.fd).target:
                        yield path.name
                finally:
                    pinned.close()


def _inode(cgroup: Path) -> int:
    """A cgroup's id; 0, which no cgroup has, where it is gone."""
    try:
        return cgroup.stat().st_ino
    except OSError:
        return 0


def _closed(capture: Capture) -> Iterator[int]:
    """The ports of listeners that do not listen: they were destroyed (SOCK_DESTROY)."""
    for listener in (capture.tunnel, capture.inbound, *capture.outbound):
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            yield listener.getsockname()[1]


def _moved(capture: Capture) -> list[IPAddress]:
    with inside(capture.netns_fd):
        present = rtnetlink.all_addresses()
    return [address for address in capture.addresses if address not in present]
