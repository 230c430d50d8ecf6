"""What waits for a worker: in order, closed in the end, and never without bound."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from agent.app import outbox
from agent.app.outbox import Outbox, Parcel
from agent.errors import KernelError


class TestParcel:
    def test_the_last_to_have_it_closes_the_descriptors(self) -> None:
        """One set of duplicates serves every worker."""
        reader, writer = os.pipe()
        parcel = Parcel.of(b"x", [reader, writer], shares=2)
        parcel.close()
        for descriptor in parcel.descriptors:
            os.fstat(descriptor)
        parcel.close()
        for descriptor in parcel.descriptors:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)
        os.close(reader)
        os.close(writer)

    def test_without_descriptors_left(self) -> None:
        """An error of ours that control survives, and none of them leaks."""
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(KernelError, match="descriptors for a worker"):
            Parcel.of(b"x", [0, -1])
        assert set(os.listdir("/proc/self/fd")) == before


class TestOutbox:
    async def test_first_in_first_out(self) -> None:
        """In order, whoever comes first: the reader or the parcels."""
        box, taken = Outbox(), list[bytes]()

        async def read() -> None:
            for _ in range(3):
                taken.append((await box.take()).frame)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            for frame in (b"1", b"22", b"333"):
                box.put(Parcel(frame))
            assert box.waiting_bytes == 6
        assert taken == [b"1", b"22", b"333"]
        assert box.waiting_bytes == 0

    def test_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is taken once it overflowed: a message must not be missed."""
        monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 1000)
        box = Outbox()
        for _ in range(50):
            box.put(Parcel(bytes(100)))
        assert box.overflowed
        assert box.waiting_bytes == 1100

    async def test_overflowed_for_good(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Room that comes later does not hide the gap."""
        monkeypatch.setattr(outbox, "MAX_WAITING", 2)
        box = Outbox()
        for _ in range(3):
            box.put(Parcel(b"x"))
        await box.take()
        box.put(Parcel(b"x"))
        assert box.waiting == 1

    def test_takes_two_worlds_however_large(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cluster whose world is above the bound does not lose its workers."""
        monkeypatch.setattr(outbox, "MAX_WAITING_BYTES", 1000)
        box = Outbox()
        for _ in range(2):
            box.put(Parcel(bytes(5000)))
        assert not box.overflowed

    def test_closes_what_is_not_sent(self) -> None:
        """Descriptors of a dead worker's parcels, and of those that found no room."""
        box = Outbox()
        waiting, late = Parcel.of(b"x", [0]), Parcel.of(b"x", [0])
        box.put(waiting)
        box.overflowed = True
        box.put(late)
        box.close()
        for parcel in (waiting, late):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(parcel.descriptors[0])
