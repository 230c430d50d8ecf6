"""
A directory of manifests, watched by looking at it.

Polling, since inotify says nothing on network and FUSE mounts and little about the
symbolic links that a ConfigMap is swapped by. A change counts once two looks in a row
see the same: editors and `cp` truncate a file before they write it, and an empty file
is a valid manifest of nothing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from agent.kube.documents import MAX_FILE_BYTES
from agent.kube.last_good import LastGood
from agent.kube.manifests import Change, ManifestSet
from agent.policy.problem import Problem

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
POLL_INTERVAL_SECONDS: Final = 0.1
# Of a large directory: looking takes at most one part in so many of the time.
LOOK_SHARE: Final = 20
# How soon the second look comes: longer than between two writes of one file, and short
# beside the 0.3 s in which a change is to be in force on every node.
SETTLE_SECONDS: Final = 0.05
# A directory that never rests is read all the same, after a second.
MAX_UNSETTLED_POLLS: Final = 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What differs when a file was written, replaced or made readable."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """The stamp of a file, through symbolic links; None where there is none."""
        try:
            info = path.stat()
        except OSError:
            return None
        return cls(
            info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
        )


async def run(
    directory: Path,
    on_change: Callable[[Change], None],
    interval_seconds: float = POLL_INTERVAL_SECONDS,
    kept: Path | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Call `on_change` with what is in force, at the start and after every change.

    `kept` is a directory for the last good content of each file, over restarts.

    Started once the first Change has been delivered. Runs until cancelled; what is
    wrong with the directory or a file is in the Change, never raised.
    """
    watcher = await trio.to_thread.run_sync(Watcher, directory, LastGood(kept))
    started = False
    while True:
        began = time.monotonic()
        change = await trio.to_thread.run_sync(watcher.poll, abandon_on_cancel=True)
        interval = max(interval_seconds, (time.monotonic() - began) * LOOK_SHARE)
        if change is not None:
            on_change(change)
        if not started:
            task_status.started()
            started = True
        soon = min(SETTLE_SECONDS, interval_seconds)
        await trio.sleep(soon if watcher.is_waiting else interval)


class Watcher:
    """One directory; `poll` blocks, and is for one thread at a time."""

    def __init__(self, directory: Path, kept: LastGood | None = None) -> None:
        self._directory = directory
        self._kept = kept or LastGood(None)
        known = self._kept.load()
        self._manifests = ManifestSet(known, self._kept.damaged)
        self._last: Change | None = None
        self._good = self._manifests.as_kept()
        self._applied: Mapping[str, Stamp | None] | None = None
        self._pending: Mapping[str, Stamp | None] | None = None
        self._unsettled = 0

    @property
    def is_waiting(self) -> bool:
        """Whether a change has been seen that another look is to confirm."""
        return self._unsettled > 0

    def poll(self) -> Change | None:
        """What is in force now, if that differs from what the last poll said."""
        try:
            found = {
                str(path.relative_to(self._directory)): Stamp.of(path)
                for path in manifest_files(self._directory)
            }
        except OSError as error:
            return self._news(self._with_fault(error))
        if found == self._applied:
            self._unsettled = 0  # changed, and changed back
        elif not self._is_settled(found):
            return None
        if found != self._applied:
            files, unreadable = read_all(self._directory, found)
            self._good = self._manifests.update(files, unreadable)
            self._kept.save(self._manifests.good)
            # A file that could not be read is tried again at the next poll.
            self._applied = None if unreadable else found
            self._pending, self._unsettled = found, 0
        return self._news(self._good)

    def _is_settled(self, found: Mapping[str, Stamp | None]) -> bool:
        if found == self._pending or self._last is None:
            return True
        self._pending = found
        self._unsettled += 1
        return self._unsettled > MAX_UNSETTLED_POLLS

    def _with_fault(self, error: OSError) -> Change:
        message = f"{error.strerror}; the last good objects stay in force"
        place = str(error.filename or self._directory)
        problems = (Problem(place, "", message), *self._good.problems)
        return replace(self._good, problems=problems, complete=False)

    def _news(self, change: Change) -> Change | None:
        if change == self._last:
            return None
        self._last = change
        return change


def manifest_files(
    directory: Path, seen: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[Path]:
    """
    Manifest files below `directory`, without hidden ones.

    A ConfigMap's files are links into `..data`, itself a link to a hidden directory.
    Links are followed, and one that leads back up is not. Raises: OSError.
    """
    info = directory.stat()
    here = (info.st_dev, info.st_ino)
    if here in seen:
        return
    for name in sorted(os.listdir(directory)):
        path = directory / name
        if name.startswith("."):
            continue
        if path.is_dir():
            yield from manifest_files(path, seen | {here})
        elif path.suffix in SUFFIXES:
            yield path


def read_all(
    directory: Path,
    paths: Mapping[str, Stamp | None],
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files' bytes, and why the others could not be read."""
    files: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    for path in paths:
        try:
            content = _read(directory / path)
        except OSError as error:
            unreadable[path] = error.strerror or str(error)
            continue
        if content:
            files[path] = content
        else:  # what a writer leaves on a full disk
            unreadable[path] = "the file is empty; delete it to remove its objects"
    return files, unreadable


def _read(path: Path) -> bytes:
    """At most one byte more than a manifest may have. Raises: OSError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "not a regular file")  # a FIFO would block us for good
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
