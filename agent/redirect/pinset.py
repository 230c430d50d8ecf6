"""
A set of pins as a whole: is it current, publish a new one, remove it.

    PINS-next    a set in the making; left behind only by a killed loader
    PINS         the set in force, complete
    PINS-old     the replaced set on its way out

From the moment a new set's links are attached to the moment the old set's are
removed, both are in force: a connection is then redirected by one of them, never by
none. `recover` ends what a killed loader began, from any point of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.errors import KernelError
from agent.redirect import pins
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import NetnsPin, PinLayout, Ports, fingerprint

SOURCE_NAMES: Final = ("redirect.c", "maps.h", "records.h")


def read_sources(directory: Path) -> dict[str, bytes]:
    """The programs' text. Raises: KernelError naming the file that is missing."""
    try:
        return {name: (directory / name).read_bytes() for name in SOURCE_NAMES}
    except OSError as error:
        raise KernelError(f"eBPF source {error.filename}: {error.strerror}") from error


def fingerprint_of(
    source: Path, cgroup: Path, ports: Ports, switches: Sequence[str] = ()
) -> bytes:
    """`layout.fingerprint` of files; a cgroup's inode number is its id."""
    return fingerprint(read_sources(source), ports, cgroup.stat().st_ino, switches)


def is_current(layout: PinLayout, digest: bytes) -> bool:
    """Whether a complete set is pinned, made from exactly this."""
    if not all(path.exists() for path in layout.expected()):
        return False
    try:
        maps = RedirectMaps.open(layout.root)
    except KernelError:
        return False
    try:
        return maps.digest() == digest
    finally:
        maps.close()


def is_settled(layout: PinLayout) -> bool:
    """Whether no loader was killed at its work, so that `recover` has nothing to do."""
    return not layout.next.root.exists() and not layout.old.root.exists()


def exists(layout: PinLayout) -> bool:
    """Whether anything of a set is there, a half-made or replaced one included."""
    return any(each.root.exists() for each in (layout, layout.next, layout.old))


def left_behind(pods: int) -> str:
    """What an agent that is gone leaves, and the command that ends it."""
    return (
        f"{pods} pods stay redirected, and their connections are refused until an agent"
        " starts; `podlock redirect remove` releases them, in plaintext"
    )


def netns_pins(layout: PinLayout) -> Iterator[NetnsPin]:
    """The pods whose network namespace has a link."""
    names = sorted(path.name for path in _listed(layout.links))
    yield from filter(None, map(NetnsPin.parse, names))


def recover(layout: PinLayout) -> None:
    """End what a killed loader began: back if nothing was published, else forward."""
    remove(layout.next)
    if layout.old.root.exists():
        if layout.root.exists():
            _inherit(layout.old, layout)
            remove(layout.old)
        else:
            layout.old.root.rename(layout.root)


def publish(layout: PinLayout) -> None:
    """
    Make the set at `layout.next` the one in force, and remove the one that was.

    The pods' links come along: they run the old program, which finds no listener
    and so refuses, until each pod is captured again and its link updated.
    """
    if layout.root.exists():
        layout.root.rename(layout.old.root)
    layout.next.root.rename(layout.root)
    if layout.old.root.exists():
        _inherit(layout.old, layout)
        remove(layout.old)


def remove(layout: PinLayout) -> None:
    """Detach and unpin everything of a set; nothing to do is fine."""
    for folder in layout.folders:
        for path in _listed(folder):
            if folder == layout.links:
                pins.unlink(path)
            else:
                path.unlink(missing_ok=True)
        if folder.exists():
            folder.rmdir()
    if layout.root.exists():
        layout.root.rmdir()


def _inherit(old: PinLayout, new: PinLayout) -> None:
    for pin in list(netns_pins(old)):
        old.netns_link(pin).rename(new.netns_link(pin))


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []
