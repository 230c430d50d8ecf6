"""Whenever the power goes, an authority is the old one or the new one, and whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.identity import atomic, operations
from agent.identity.authority import ISSUER_LIFETIME
from agent.identity.state import AuthorityState
from agent.identity.store import InvalidKeystore, Store
from tests.unit.identity.parts import NOW, TD


class PowerLoss(BaseException):
    """The world ends; no code of ours runs after it."""


class CutDisk(atomic.Disk):
    """
    Ends the world after so many steps: a part of a file, an fsync, a rename, a removal.

    A rename that was not synced may or may not survive: `keeps_renames` says.
    """

    def __init__(self, steps: int, *, keeps_renames: bool) -> None:
        self.left = steps
        self.keeps_renames = keeps_renames
        self._unsynced: list[Callable[[], None]] = []

    def create(self, path: Path, content: bytes, mode: int) -> None:
        path.touch(mode)
        # No byte of it is looked at before the rename, so these stand for all.
        for size in (0, 1, len(content) // 2, len(content) - 1, len(content)):
            path.write_bytes(content[:size])
            self._step()

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        before = new.read_bytes() if new.exists() else None
        old.replace(new)
        if not self.keeps_renames:
            self._unsynced.append(lambda: _put_back(new, before))

    def sync(self, directory: Path) -> None:
        del directory
        self._step()
        self._unsynced.clear()

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def _step(self) -> None:
        if self.left == 0:
            for undo in reversed(self._unsynced):
                undo()
            raise PowerLoss
        self.left -= 1


def _put_back(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)


def whole(store: Store) -> AuthorityState:
    """The state, if everything that it needs is there."""
    state = store.load()
    assert state.issuer is not None
    assert store.key_for(state.issuer) is not None
    for root in state.roots:
        assert store.key_for(root.anchor.der) is not None
    store.token_key()
    return state


def rotate(store: Store) -> None:
    operations.rotate_issuer(store, NOW)


def add(store: Store) -> None:
    operations.add_anchor(store, None, NOW, ISSUER_LIFETIME)


@pytest.mark.slow
@pytest.mark.parametrize("keeps_renames", [True, False])
@pytest.mark.parametrize("operation", [rotate, add])
def test_a_cut_leaves_the_old_or_the_new(
    tmp_path: Path, operation: Callable[[Store], None], keeps_renames: bool
) -> None:
    """At every step of the way; `tidy`, as at a start, then finds nothing to undo."""
    first = Store(tmp_path / "first")
    operations.initialize(first, TD, NOW)
    before = first.load()
    outcomes = []
    steps = 0
    finished = False
    while not finished:
        place = tmp_path / "cut"
        shutil.copytree(first.directory, place)
        disk = CutDisk(steps, keeps_renames=keeps_renames)
        try:
            operation(Store(place, disk))
            finished = True
        except PowerLoss:
            pass
        after = whole(Store(place))
        Store(place).tidy()
        assert whole(Store(place)) == after
        assert after == before or after.version == before.version + 1
        outcomes.append(after.version - before.version)
        shutil.rmtree(place)
        steps += 1
    # The old ones come first, then the new ones: there is one moment of change.
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {0, 1}


class FullDisk(atomic.Disk):
    """Has no room for files of this name's place in the sequence."""

    def __init__(self, room_for: int) -> None:
        self.room_for = room_for

    def create(self, path: Path, content: bytes, mode: int) -> None:
        if self.room_for == 0:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        self.room_for -= 1
        super().create(path, content, mode)


@pytest.mark.parametrize("room_for", range(3))
def test_a_full_disk_changes_nothing(tmp_path: Path, room_for: int) -> None:
    """The command fails and says so; the old authority is in force and whole."""
    operations.initialize(Store(tmp_path), TD, NOW)
    before = Store(tmp_path).load()
    with pytest.raises(InvalidKeystore, match="No space left on device"):
        add(Store(tmp_path, FullDisk(room_for)))
    assert whole(Store(tmp_path)) == before
    bundle = (tmp_path / "ca.crt").read_bytes()
    Store(tmp_path).tidy()
    assert (tmp_path / "ca.crt").read_bytes() == before.bundle.pem
    assert room_for < 2 or bundle != b""


def test_appends_whole_lines(tmp_path: Path) -> None:
    """After a torn line the next one begins on its own."""
    path = tmp_path / "log"
    atomic.append(path, b"one\n", 0o600)
    with path.open("ab") as file:
        file.write(b"tor")
    atomic.append(path, b"two\n", 0o600)
    assert path.read_bytes() == b"one\ntor\ntwo\n"


def test_an_append_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full after three bytes."""
    path = tmp_path / "log"
    atomic.append(path, b"one\n", 0o600)
    real, calls = os.write, iter([True, False])

    def write(descriptor: int, content: bytes) -> int:
        if next(calls):
            return real(descriptor, content[:3])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="full"):
        atomic.append(path, b"second\n", 0o600)
    assert path.read_bytes() == b"one\n"
