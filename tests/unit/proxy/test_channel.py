"""Frames and descriptors arrive whole and in order, however the socket cuts them."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from agent.proxy.channel import LENGTH, MAX_FRAME_BYTES, Channel, ChannelClosed


def pair() -> tuple[Channel, Channel]:
    left, right = socket.socketpair()
    return Channel(left), Channel(right)


async def test_frames_larger_than_the_socket_takes_at_once() -> None:
    """A megabyte arrives as one frame, and the next one after it."""
    left, right = pair()
    big = os.urandom(1 << 20)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send, big)
        assert await right.receive() == big
    await left.send(b"next")
    assert await right.receive() == b"next"
    left.close()
    right.close()


async def test_descriptors_come_with_their_frame() -> None:
    """Each message takes its own descriptors from the queue."""
    left, right = pair()
    reader, writer = os.pipe()
    await left.send(b"none")
    await left.send(b"two", [reader, writer])
    os.close(reader)
    os.close(writer)

    assert await right.receive() == b"none"
    assert await right.receive() == b"two"
    theirs = right.take_descriptors(2)
    os.write(theirs[1], b"x")
    assert os.read(theirs[0], 1) == b"x"
    for descriptor in theirs:
        os.close(descriptor)
    left.close()
    right.close()


async def test_the_end_of_the_other_process() -> None:
    """A dead peer is an error of ours, for who reads and who writes."""
    left, right = pair()
    left.close()

    with pytest.raises(ChannelClosed):
        await right.receive()
    with pytest.raises(ChannelClosed):
        await right.send(b"x")
    right.close()


async def test_an_absurd_length() -> None:
    """A frame that can not be ours is not waited for."""
    left, right = socket.socketpair()
    left.send(LENGTH.pack(MAX_FRAME_BYTES + 1))
    channel = Channel(right)

    with pytest.raises(ChannelClosed, match="frame of"):
        await channel.receive()
    channel.close()
    left.close()
