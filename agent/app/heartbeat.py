"""A worker's own words about the channel, which no flood of other news may hold up."""

from __future__ import annotations

import contextlib

import trio

from agent.proxy.instructions import Ping
from agent.workload.connection import Answer, Message, Pong, WorldWanted


def answer(ping: Ping, news: trio.MemorySendChannel[Message | Answer]) -> None:
    """Show control that this worker still reads: at the end of what it has to tell."""
    _send(Pong(number=ping.number), news)


def ask_for_world(reason: str, news: trio.MemorySendChannel[Message | Answer]) -> None:
    """Ask control for the whole world."""
    _send(WorldWanted(reason=reason), news)


def _send(word: Answer, news: trio.MemorySendChannel[Message | Answer]) -> None:
    with contextlib.suppress(trio.ClosedResourceError):  # the worker is ending
        news.send_nowait(word)
