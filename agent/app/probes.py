"""
The kubelet's own connections are known for what they are, as long as there is one.

It is looked for once a second: it may start after the agent, or again, in another
cgroup. Without it nothing is exempt, and probes are judged as any connection is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from agent.errors import KernelError
from agent.redirect.kubelet import Kubelet, find_kubelet, is_still
from agent.redirect.sideline import Sideline

LOOK_SECONDS: Final = 1.0
SUBJECT: Final = "kubelet"

Tell = Callable[[str, str, str], None]


class Probes:
    """Keeps `note_probe` on the kubelet's cgroup."""

    def __init__(
        self, sideline: Sideline, port: int, cgroup2: Path, tell: Tell
    ) -> None:
        """`port`: the kubelet's own. `tell`: an event; kind, subject, text."""
        self._sideline = sideline
        self._port = port
        self._cgroup2 = cgroup2
        self._tell = tell
        self._kubelet: Kubelet | None = None
        self._fault: str | None = None

    async def run(self) -> None:
        """For ever."""
        while True:
            await trio.to_thread.run_sync(self.look)
            await trio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Attach where the kubelet is now. Blocks for milliseconds."""
        known = self._kubelet
        if known is not None and is_still(known):
            return
        found = find_kubelet(self._port, self._cgroup2)
        if found is not None and found.cgroup == self._cgroup2:
            self._failed("it is in the root of cgroup v2, with everybody else")
            return
        try:
            # Without one nothing new is attached, and nothing that is there lets go:
            # a kubelet that starts again mostly has the cgroup that it had.
            if found is not None:
                self._sideline.note_probes_of(found.cgroup)
        except KernelError as error:
            self._failed(str(error))
            return
        self._kubelet = found
        if found is None:
            self._failed(f"nobody listens on port {self._port}")
            return
        self._fault = None
        self._tell("probes", SUBJECT, f"recognised by its cgroup, {found.cgroup}")

    def _failed(self, why: str) -> None:
        if why != self._fault:
            self._fault = why
            text = f"{why}: its probes are judged as any connection is"
            self._tell("probes-unknown", SUBJECT, text)
