"""
An API server says who runs on this node, the kernel where: both as one source.

The kubelet makes a pod's cgroup and network namespace after the pod was given to the
node, and may make them anew. So the pods of this node whose namespace is not known are
looked for closely, and the others once in a while.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import trio

from agent.kube.manifests import Change
from agent.kube.source import Source
from agent.log import logger
from agent.redirect.pod_netns import PodNamespaces

log = logger()

# While a pod of this node has none: the time from sandbox to capture is mostly this.
CLOSE_SECONDS: Final = 0.02
# A sandbox that is made anew: its pod was without network for longer.
CALM_SECONDS: Final = 0.5
# In every how many close looks all cgroups are walked: once a second.
WALK_EVERY: Final = 50


class Sandboxes:
    """An ObjectSource: the API server's objects with the namespaces of our pods."""

    def __init__(self, source: Source, namespaces: PodNamespaces) -> None:
        self._source = source
        self._namespaces = namespaces

    async def run(
        self,
        on_change: Callable[[Change], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Call `on_change` with all that is in force, at first and after changes."""

        def told(change: Change) -> None:
            on_change(change)
            # Only now does nobody use the namespaces of pods that are gone.
            self._namespaces.keep({pod.uid for pod in change.objects.workloads})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look)
            await self._source.run(told, task_status)

    def missing(self) -> list[str]:
        """Why what was told is not all that there is, for people."""
        return self._source.missing()

    async def _look(self) -> None:
        for turn in itertools.count():
            here = {
                pod.uid
                for pod in self._source.own_pods()
                if not pod.host_network and not pod.finished
            }
            sought = {uid for uid in here if self._namespaces.path(uid) is None}
            everywhere = turn % WALK_EVERY == 0
            if self._namespaces.look(
                here if everywhere else sought, everywhere=everywhere
            ):
                self._source.touch()
            await trio.sleep(CLOSE_SECONDS if sought else CALM_SECONDS)
