"""
Files that appear whole or not at all, whenever the power goes.

Write beside, fsync, rename, fsync the directory (rename(2), fsync(2)). `Disk` is the
few calls it takes, so that a test can end the world between any two of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

# What a cut leaves behind; swept by the next change.
LEFTOVER_PREFIX: Final = ".new-"


class Disk:
    """The calls that change a directory. Every one raises OSError."""

    def create(self, path: Path, content: bytes, mode: int) -> None:
        """A new file with this content, on the disk when this returns."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """`new` is `old` from now on, or still what it was."""
        old.replace(new)

    def sync(self, directory: Path) -> None:
        """The names in a directory are on the disk when this returns."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """No such file any more."""
        path.unlink(missing_ok=True)


def write(path: Path, content: bytes, mode: int, disk: Disk) -> None:
    """
    Put `content` at `path`, in place of what is there.

    Raises: OSError, and then what was there is there still.
    """
    beside = path.with_name(f"{LEFTOVER_PREFIX}{secrets.token_hex(8)}")
    try:
        disk.create(beside, content, mode)
        disk.rename(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            disk.remove(beside)
        raise
    disk.sync(path.parent)


def append(path: Path, content: bytes, mode: int) -> None:
    """
    Add whole lines to a file, on the disk when this returns.

    Raises: OSError, and then nothing of them is in it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    try:
        end = os.fstat(descriptor).st_size
        # A cut may have torn the last line; the next one must not grow onto it.
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            content = b"\n" + content
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fdatasync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # a device has no length to cut
                os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)
