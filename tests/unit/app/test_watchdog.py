"""Who is hung and who is merely busy."""

from __future__ import annotations

from agent.app.watchdog import START_SECONDS, Watch


def watch() -> Watch:
    """A worker that has answered its first ping, at second 100."""
    made = Watch(10.0, 100.0)
    number = made.ping(100.0)
    made.sent(number, 100.0)
    assert number is not None
    made.answered(number)
    return made


def ticks(made: Watch, begin: float, end: float) -> list[float]:
    """Look every second; the times at which it was hung."""
    return [
        begin + step for step in range(int(end - begin) + 1) if made.tick(begin + step)
    ]


def test_no_answer() -> None:
    """Ten seconds after the ping was written, not earlier."""
    made = watch()
    made.sent(made.ping(101.0), 101.0)
    assert ticks(made, 101.0, 113.0) == [112.0, 113.0]


def test_an_answer() -> None:
    """Then nothing is due until the next ping."""
    made = watch()
    made.sent(made.ping(101.0), 101.0)
    made.answered(2)
    assert ticks(made, 101.0, 130.0) == []
    assert made.ping(130.0) == 3


def test_one_ping_at_a_time() -> None:
    """A worker that lags is not given more to read."""
    made = watch()
    assert made.ping(101.0) == 2
    assert made.ping(102.0) is None


def test_who_takes_what_waits_is_alive() -> None:
    """While a large world goes before the ping, each message taken counts."""
    made = watch()
    made.ping(101.0)
    assert ticks(made, 101.0, 110.0) == []
    made.sent(None, 110.0)
    assert ticks(made, 111.0, 120.0) == []
    assert ticks(made, 121.0, 121.0) == [121.0]


def test_a_socket_that_still_has_room_is_no_answer() -> None:
    """Messages after the ping may lie in the kernel's buffer and nobody reads."""
    made = watch()
    made.sent(made.ping(101.0), 101.0)
    hung: list[float] = []
    for second in range(102, 114):
        hung += ticks(made, second, second)
        made.sent(None, float(second))
    assert hung == [112.0, 113.0]


def test_an_old_or_invented_answer() -> None:
    """A number that is not the last one's says nothing."""
    made = watch()
    made.sent(made.ping(101.0), 101.0)
    made.answered(1)
    made.answered(7)
    assert made.waiting


def test_an_answer_before_the_sender_returns() -> None:
    """The worker may be quicker than the task that sent the ping."""
    made = watch()
    number = made.ping(101.0)
    made.answered(2)
    made.sent(number, 101.0)
    assert ticks(made, 101.0, 130.0) == []
    made.ping(130.0)
    made.sent(None, 131.0)
    assert ticks(made, 131.0, 141.0) == []
    assert ticks(made, 142.0, 142.0) == [142.0]


def test_control_itself_did_not_run() -> None:
    """After a pause of our own the worker gets its time again."""
    made = watch()
    made.sent(made.ping(101.0), 101.0)
    assert ticks(made, 160.0, 170.0) == []
    assert ticks(made, 171.0, 171.0) == [171.0]


def test_a_fresh_process_has_more_time() -> None:
    """Imports and the first world come before its first answer."""
    made = Watch(2.0, 100.0)
    number = made.ping(100.0)
    made.sent(number, 100.0)
    step = made.interval_seconds
    times = [100.0 + step * n for n in range(int(40 / step))]
    hung = [time for time in times if made.tick(time)]
    assert hung[0] > 100.0 + START_SECONDS
