"""
The last good content of each manifest file, kept on disk over restarts (I/O).

A node that starts while a source is broken uses what it last enforced: a directory that
is not mounted, a file that is cut off or empty opens nothing. One file for each
manifest, named by the digest of its path; its first line is the path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.identity.atomic import LEFTOVER_PREFIX, Disk, write
from agent.log import logger

log = logger(part="kube")

MODE: Final = 0o600
_SUFFIX: Final = ".manifest"


class LastGood:
    """The directory that keeps them; None keeps nothing. Calls block."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._saved: dict[str, bytes] = {}
        self.damaged: tuple[str, ...] = ()
        """Kept files that `load` could not use: what they closed is not known."""

    def load(self) -> dict[str, bytes]:
        """Content by manifest path; what cannot be read is logged and left out."""
        self.damaged = ()
        self._saved = dict(self._read())
        return dict(self._saved)

    def _read(self) -> Iterator[tuple[str, bytes]]:
        if self._directory is None:
            return
        for file in sorted(self._directory.glob(f"*{_SUFFIX}")):
            try:
                digest, path, content = file.read_bytes().split(b"\n", 2)
                if hashlib.sha256(content).hexdigest().encode() != digest:
                    raise ValueError("its digest does not match its content")
                yield path.decode(), content
            except (OSError, ValueError) as error:
                self.damaged += (str(file),)
                log.error("kept manifest unusable", file=str(file), error=str(error))

    def save(self, files: Mapping[str, bytes]) -> None:
        """Keep exactly `files`. A disk that fails is logged; the next call retries."""
        if self._directory is None or files == self._saved:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self._directory.glob(f"{LEFTOVER_PREFIX}*"):
                left.unlink(missing_ok=True)
            for path, content in files.items():
                if self._saved.get(path) != content:
                    digest = hashlib.sha256(content).hexdigest().encode()
                    whole = b"\n".join((digest, path.encode(), content))
                    write(self._file(path), whole, MODE, Disk())
                    self._saved[path] = content
            for path in self._saved.keys() - files.keys():
                self._file(path).unlink(missing_ok=True)
                del self._saved[path]
        except OSError as error:
            log.error(
                "manifests not kept", place=str(self._directory), error=error.strerror
            )

    def _file(self, path: str) -> Path:
        assert self._directory is not None
        name = hashlib.sha256(path.encode()).hexdigest()
        return self._directory / f"{name}{_SUFFIX}"
