"""What happened is told in order, in few frames, and all of what must be told."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from agent.proxy import news as module
from agent.proxy.channel import ChannelClosed
from agent.proxy.news import GATHER_SECONDS, News
from agent.workload.connection import (
    Answer,
    Incident,
    Message,
    Pong,
    decode,
)


class Control:
    """Takes frames, unless it hangs."""

    def __init__(self) -> None:
        self.frames: list[list[Message | Answer]] = []
        self.told = trio.Event()
        self.gone = False
        self.takes = trio.Event()
        self.takes.set()

    async def send(self, frame: bytes) -> None:
        await self.takes.wait()
        if self.gone:
            raise ChannelClosed("for the test")
        self.frames.append([decode(line) for line in frame.split(b"\n")])
        self.told.set()

    @property
    def texts(self) -> list[list[str]]:
        return [
            [m.message for m in frame if isinstance(m, Incident)]
            for frame in self.frames
        ]


def incident(text: str) -> Incident:
    return Incident(kind="limit", object="shop/web", message=text, time=0.0)


async def test_messages_share_a_frame(autojump_clock: trio.abc.Clock) -> None:
    """What comes within a moment goes together and in order, what comes later apart."""
    control = Control()
    news = News(control.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(news.run)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        news.tell(incident("one"))
        await trio.testing.wait_all_tasks_blocked()
        news.tell(incident("two\nlines"))
        await control.told.wait()
        assert trio.current_time() - began <= GATHER_SECONDS
        news.tell(incident("three"))
        await news.finish()
    assert control.texts == [["one", "two\nlines"], ["three"]]


async def test_what_comes_while_a_frame_is_sent() -> None:
    """It is neither lost nor told twice."""
    control = Control()
    control.takes = trio.Event()
    news = News(control.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(news.run)
        news.tell(incident("one"))
        while news._waiting:
            await trio.lowlevel.checkpoint()
        news.tell(incident("two"))
        control.takes.set()
        with trio.fail_after(5):
            await news.finish()
    assert control.texts == [["one"], ["two"]]


async def test_the_end_waits_for_nothing() -> None:
    """`finish` tells what is left at once, and returns when it has gone."""
    control = Control()
    news = News(control.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(news.run)
        await trio.testing.wait_all_tasks_blocked()
        news.tell(incident("last"))
        with trio.fail_after(5):
            await news.finish()
            assert control.texts == [["last"]]
    assert news.take_lost() == 0


async def test_the_end_without_news() -> None:
    """No empty frame is sent."""
    control = Control()
    news = News(control.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(news.run)
        with trio.fail_after(5):
            await news.finish()
    assert control.frames == []


async def test_a_control_that_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound only what control must know is kept; the rest is counted."""
    monkeypatch.setattr(module, "MAX_UNTOLD", 2)
    control = Control()
    news = News(control.send)
    for text in ("one", "two", "three", "four"):
        news.tell(incident(text))
    news.tell(Pong(number=7))
    assert (news.take_lost(), news.take_lost()) == (2, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(news.run)
        await news.finish()
    assert control.frames == [[incident("one"), incident("two"), Pong(number=7)]]


async def test_control_is_gone() -> None:
    """The error ends who runs it."""
    control = Control()
    control.gone = True
    news = News(control.send)
    news.tell(incident("one"))
    with pytest.raises(ChannelClosed):
        await news.run()
