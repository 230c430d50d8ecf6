"""
Programs on cgroups beside the redirect's own: the kubelet's, and that of all pods.

Which cgroups these are comes and goes with the node's services, so they are attached by
the agent and not by the loader. Pinned links outlive it: a kubelet's probes are known
while an agent is replaced, and the gate stays shut.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from agent.errors import KernelError
from agent.redirect import pins
from agent.redirect.layout import GATE_HOOKS, PROBE_HOOK, Hook, PinLayout


class Sideline:
    """The links of one set of programs. Calls block for moments."""

    def __init__(self, root: Path) -> None:
        """`root`: where the set is pinned."""
        self._layout = PinLayout(root)

    def note_probes_of(self, cgroup: Path | None) -> None:
        """Who connects in this cgroup is the kubelet, and nobody else is."""
        self._keep(PROBE_HOOK, [cgroup] if cgroup else [])

    def guard(self, cgroups: Collection[Path]) -> None:
        """Below these cgroups an unknown network namespace connects nowhere."""
        for hook in GATE_HOOKS:
            self._keep(hook, cgroups)

    def _keep(self, hook: Hook, cgroups: Collection[Path]) -> None:
        """Attached to these and to no others. Raises: KernelError."""
        wanted: dict[Path, Path] = {}
        for cgroup in cgroups:
            with _naming(cgroup):
                inode = cgroup.stat().st_ino
            wanted[self._layout.cgroup_link(hook, inode)] = cgroup
        for link, cgroup in wanted.items():
            if not link.exists():
                self._attach(hook, cgroup, link)
        for link in self._links(hook):
            if link not in wanted:
                with contextlib.suppress(pins.MissingPin):
                    pins.unlink(link)

    def _links(self, hook: Hook) -> Iterator[Path]:
        with _naming(self._layout.links):
            yield from list(self._layout.links.glob(f"{hook.name}-*"))

    def _attach(self, hook: Hook, cgroup: Path, link: Path) -> None:
        with _naming(cgroup), contextlib.ExitStack() as opened:
            target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, target)
            program = opened.enter_context(
                pins.opened(self._layout.programs / hook.name)
            )
            made = pins.link_create(program, target, hook.attach, f"{hook.name}")
            opened.callback(os.close, made)
            pins.pin(made, link)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KernelError(f"{path}: {error.strerror}") from error
