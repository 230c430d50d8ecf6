"""Buffers are reused, and not kept without bound."""

from __future__ import annotations

from agent.proxy.buffers import BUFFER_BYTES, KEEP, BufferPool


def test_a_buffer_is_used_again() -> None:
    """What one gives back the next one gets."""
    pool = BufferPool()
    first = pool.take()
    assert len(first) == BUFFER_BYTES
    pool.give(first)
    assert pool.take() is first


def test_only_so_many_are_kept() -> None:
    """After a burst the memory is given back."""
    pool = BufferPool()
    taken = [pool.take() for _ in range(KEEP + 5)]
    for buffer in taken:
        pool.give(buffer)
    again = {id(pool.take()) for _ in range(KEEP + 5)}
    assert len(again & {id(buffer) for buffer in taken}) == KEEP
