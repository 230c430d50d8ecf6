"""
Revocation lists from files, read again when they change.

A file, or a directory of them (hidden names are passed over, links are followed, so a
mounted ConfigMap works: its files are links into `..data`, which is swapped). Looked
at and not watched, since inotify says nothing on network mounts.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import trio

from agent.identity.crl import MAX_CRL_BYTES, InvalidCrl, RevocationList, parse

POLL_INTERVAL: Final = timedelta(seconds=1)
MAX_FILES: Final = 100
# PEM is a third longer than DER.
MAX_FILE_BYTES: Final = 2 * MAX_CRL_BYTES

_Stamps = Mapping[Path, tuple[int, ...] | None]


@dataclass(frozen=True, slots=True)
class CrlNews:
    """What is in force, and what is wrong: a message by path."""

    lists: tuple[RevocationList, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)


class CrlFiles:
    """
    One path; `poll` blocks, and is for one thread at a time.

    A file that cannot be read or understood leaves what it last said in force. Only
    one that is gone, from a directory that can be read, takes its lists with it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._good: dict[Path, tuple[RevocationList, ...]] = {}
        self._applied: _Stamps | None = None
        self._pending: _Stamps | None = None
        self._faults: dict[str, str] = {}
        self._last: CrlNews | None = None

    def poll(self) -> CrlNews | None:
        """What is in force now, if that differs from what the last poll said."""
        try:
            found = {path: _stamp(path) for path in _files(self._path)}
        except OSError as error:
            fault = f"{error.strerror}; the last good lists stay in force"
            return self._news({str(self._path): fault})
        if found == self._applied:
            return self._news(self._faults)
        # Two looks must see the same: `cp` truncates a file before it writes it.
        if self._applied is not None and found != self._pending:
            self._pending = found
            return None
        self._applied = found
        self._faults = self._read(found)
        return self._news(self._faults)

    def _read(self, found: _Stamps) -> dict[str, str]:
        faults: dict[str, str] = {}
        self._good = {path: self._good.get(path, ()) for path in found}
        for path in found:
            try:
                self._good[path] = _lists(path)
            except InvalidCrl as error:
                faults[str(path)] = f"{error}; what it said before stays in force"
            except OSError as error:
                self._applied = None  # it may be readable next time, and look the same
                text = error.strerror or str(error)
                faults[str(path)] = f"{text}; what it said before stays in force"
        return faults

    def _news(self, faults: dict[str, str]) -> CrlNews | None:
        lists = [each for path in sorted(self._good) for each in self._good[path]]
        news = CrlNews(tuple(dict.fromkeys(lists)), faults)
        if news == self._last:
            return None
        self._last = news
        return news


async def run(
    path: Path,
    on_change: Callable[[CrlNews], None],
    *,
    interval: timedelta = POLL_INTERVAL,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call `on_change` at the start and after every change, until cancelled."""
    files = CrlFiles(path)
    started = False
    while True:
        news = await trio.to_thread.run_sync(files.poll, abandon_on_cancel=True)
        if news is not None:
            on_change(news)
        if not started:
            task_status.started()
            started = True
        await trio.sleep(interval.total_seconds())


def _files(path: Path) -> list[Path]:
    """Raises: OSError, also for more than MAX_FILES."""
    if not stat.S_ISDIR(path.stat().st_mode):
        return [path]
    names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    found = [path / name for name in names if not (path / name).is_dir()]
    if len(found) > MAX_FILES:
        raise OSError(0, f"{len(found)} files, expected at most {MAX_FILES}")
    return found


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs when a file was written, replaced or made readable."""
    try:
        info = path.stat()
    except OSError:
        return None
    times = info.st_mtime_ns, info.st_ctime_ns
    return info.st_dev, info.st_ino, info.st_size, info.st_mode, *times


def _lists(path: Path) -> tuple[RevocationList, ...]:
    """Raises: OSError, InvalidCrl, also for a file without any list."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "not a regular file")  # a FIFO would block us for good
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise InvalidCrl(f"CRL: expected a file of at most {MAX_FILE_BYTES} bytes")
    lists = parse(data)
    if not lists:
        raise InvalidCrl("CRL: no list in it")
    return lists
