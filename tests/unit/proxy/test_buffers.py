"""Buffers are reused, by size, and not hoarded."""

from __future__ import annotations

from contextlib import ExitStack

from agent.proxy.buffers import KEEP, LARGE_BYTES, SMALL_BYTES, BufferPool


def test_small_unless_asked_for_large() -> None:
    """Whoever has shown no bulk gets one TLS record of room."""
    pool = BufferPool()
    with pool.borrow() as small, pool.borrow(large=True) as large:
        assert (len(small), len(large)) == (SMALL_BYTES, LARGE_BYTES)


def test_reused() -> None:
    """The next borrower of a size gets what the last one gave back."""
    pool = BufferPool()
    with pool.borrow() as first:
        pass
    with pool.borrow(large=True) as other, pool.borrow() as second:
        assert second is first
        assert other is not first


def test_a_burst_is_not_kept() -> None:
    """After many at once only so many stay."""
    pool = BufferPool()
    with ExitStack() as many:
        burst = [many.enter_context(pool.borrow()) for _ in range(4 * KEEP)]
    with ExitStack() as again:
        taken = [again.enter_context(pool.borrow()) for _ in range(2 * KEEP)]
    assert len([one for one in taken if any(one is b for b in burst)]) == KEEP
