"""
The start gate: a pod connects nowhere before the agent has looked at it.

Which pods there are, the API server says; when one runs, the kernel. A pod's first
process may connect before the agent has heard of it, so below the cgroup of all pods
(`guard`) the kernel refuses a network namespace that was neither captured nor judged.
Without an agent it stays shut for new pods.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.errors import KernelError
from agent.redirect import pod_cgroups
from agent.redirect.kernel import RedirectMaps
from agent.redirect.netns import netns_cookie_of, own_netns_cookie
from agent.redirect.sideline import Sideline

ROOT_DEPTH: Final = 5


class Gate:
    """The namespaces that may connect though they are not in the mesh."""

    def __init__(self, maps: RedirectMaps, sideline: Sideline, cgroup2: Path) -> None:
        """`cgroup2`: below it are the kubelets' cgroups of pods, or it is one."""
        self._maps = maps
        self._sideline = sideline
        self._cgroup2 = cgroup2
        self._judged: dict[str, tuple[str, int]] = {}

    def shut(self) -> list[Path]:
        """
        Below each cgroup of pods; returns them, none where no kubelet made one yet.

        Raises: KernelError.
        """
        # The node's own namespace first: pods on the host network are in it.
        self._maps.judge(own_netns_cookie())
        cgroups = list(roots_of_pods(self._cgroup2))
        self._sideline.guard(cgroups)
        return cgroups

    def open(self) -> None:
        """Every namespace may connect. Raises: KernelError."""
        self._sideline.guard(())

    def admit(self, outside: Mapping[str, str]) -> None:
        """
        Let these pods connect, by uid and path of their namespace.

        Raises: KernelError, naming a pod; the others are let through first.
        """
        faults = []
        for uid, netns in outside.items():
            if self._judged.get(uid, ("", 0))[0] == netns:
                continue
            try:
                self._judged[uid] = (netns, self._judge(netns))
            except (OSError, KernelError) as error:
                faults.append(f"pod {uid}: {error}")
        if faults:
            raise KernelError("; ".join(faults))

    def retain(self, outside: Mapping[str, str]) -> None:
        """Take back what others were let through, by this agent or one before it."""
        for uid in self._judged.keys() - outside.keys():
            del self._judged[uid]
        for cookie in self._maps.judged() - self._known():
            self._maps.unjudge(cookie)

    def missing(self) -> set[int]:
        """Those let through that the map does not have. Raises: KernelError."""
        return self._known() - self._maps.judged()

    def restore(self) -> None:
        """Let them through again. Raises: KernelError."""
        for cookie in self.missing():
            self._maps.judge(cookie)

    def _known(self) -> set[int]:
        return {own_netns_cookie(), *(cookie for _, cookie in self._judged.values())}

    def _judge(self, netns: str) -> int:
        descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            cookie = netns_cookie_of(descriptor)
        finally:
            os.close(descriptor)
        self._maps.judge(cookie)
        return cookie


def roots_of_pods(top: Path, depth: int = ROOT_DEPTH) -> Iterator[Path]:
    """Where kubelets keep their pods, `top` itself perhaps."""
    if pod_cgroups.is_root(top.name):
        yield top
        return
    if depth == 0:
        return
    with contextlib.suppress(OSError):
        for path in sorted(each for each in top.iterdir() if each.is_dir()):
            yield from roots_of_pods(path, depth - 1)
