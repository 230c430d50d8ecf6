"""
Descriptors of what one set of pins keeps alive.

A pin is a name, and any tool may remove it; what it names lives on while a descriptor
is open. So the agent holds maps, programs and links, compares them with the pins by
their ids, and can pin them again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import KernelError
from agent.redirect import bpf_info, pins
from agent.redirect.facts import Attachment, Pin
from agent.redirect.layout import PinLayout

Identify = Callable[[int], int]


def link_id(fd: int) -> int:
    """The id of a link. Raises: KernelError."""
    return bpf_info.link(fd).id


@dataclass(frozen=True, slots=True)
class Held:
    """An open object, its id, and how the id of its like is read."""

    fd: int
    id: int
    identify: Identify

    @classmethod
    def of(cls, fd: int, identify: Identify) -> Held:
        """Takes over `fd`. Raises: KernelError; then it is closed."""
        try:
            return cls(fd, identify(fd), identify)
        except KernelError:
            os.close(fd)
            raise

    @classmethod
    def open(cls, path: Path, identify: Identify) -> Held:
        """What is pinned at a path. Raises: MissingPin, KernelError."""
        return cls.of(pins.obj_get(path), identify)

    def close(self) -> None:
        os.close(self.fd)

    def at(self, path: Path) -> Pin:
        """What the path names: this object, another one, or nothing."""
        try:
            with pins.opened(path) as fd:
                return Pin.OURS if self.identify(fd) == self.id else Pin.FOREIGN
        except pins.MissingPin:
            return Pin.MISSING
        except KernelError:  # a map where a link is expected, or no pin at all
            return Pin.FOREIGN

    def repin(self, path: Path) -> None:
        """Name it again, whatever has the name. Raises: KernelError."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise KernelError(f"pin {path}: {error.strerror}") from error
        pins.pin(self.fd, path)


class HeldPins:
    """The maps, programs and cgroup links of a complete set."""

    def __init__(self, layout: PinLayout, objects: Mapping[str, Held]) -> None:
        self._layout = layout
        self.objects = dict(objects)
        """By the path below the set's directory."""

    @classmethod
    def open(cls, layout: PinLayout) -> HeldPins:
        """Raises: KernelError naming the pin that is missing."""
        opened: dict[str, Held] = {}
        try:
            for path in layout.expected():
                identify = (
                    link_id if path.parent == layout.links else bpf_info.object_id
                )
                name = str(path.relative_to(layout.root))
                opened[name] = Held.open(path, identify)
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        return cls(layout, opened)

    def close(self) -> None:
        for each in self.objects.values():
            each.close()

    def pins(self) -> dict[str, Pin]:
        """What each pin names now."""
        return {
            name: held.at(self._layout.root / name)
            for name, held in self.objects.items()
        }

    def program(self, name: str) -> Held:
        return self.objects[f"programs/{name}"]

    def link(self, name: str) -> Held:
        return self.objects[f"links/{name}"]

    def repin(self, name: str) -> None:
        """Raises: KernelError."""
        self.objects[name].repin(self._layout.root / name)

    def replace_link(self, name: str, fd: int) -> None:
        """Pin and hold a new link in place of a dead one. Raises: KernelError."""
        made = Held.of(fd, link_id)
        try:
            made.repin(self._layout.links / name)
        except KernelError:
            made.close()
            raise
        self.link(name).close()
        self.objects[f"links/{name}"] = made


def attachment(link_fd: int, program: int, target: int) -> Attachment:
    """
    What became of a link that is to run `program` at `target`.

    Raises: KernelError.
    """
    found = bpf_info.link(link_fd)
    if not found.target:
        return Attachment.DETACHED
    if found.target != target:
        return Attachment.ELSEWHERE
    if program and found.program != program:
        return Attachment.REPLACED
    return Attachment.ATTACHED
