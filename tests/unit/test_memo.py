"""A kept result is the one that would come out now."""

from __future__ import annotations

from agent.memo import Memo


class Counter:
    """Notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def make(self, values: tuple[int, ...]) -> list[int]:
        self.asked.append(values)
        return list(values)


def test_equal_arguments_give_the_same_object() -> None:
    """Also when they are equal and not the same."""
    counter = Counter()
    memo = Memo(counter.make)
    first = memo("a", (1, 2))
    memo.end_round()
    assert memo("a", tuple(range(1, 3))) is first
    assert counter.asked == [(1, 2)]


def test_other_arguments_are_made_anew() -> None:
    """And the last ones are what counts, not any earlier ones."""
    counter = Counter()
    memo = Memo(counter.make)
    for values in ((1,), (2,), (1,)):
        assert memo("a", values) == list(values)
        memo.end_round()
    assert counter.asked == [(1,), (2,), (1,)]


def test_what_is_not_asked_for_is_forgotten() -> None:
    """A pod that is gone holds no memory."""
    counter = Counter()
    memo = Memo(counter.make)
    memo("a", (1,))
    memo.end_round()
    memo.end_round()
    memo("a", (1,))
    assert counter.asked == [(1,), (1,)]


def test_asked_twice_in_a_round_it_is_made_once() -> None:
    """Who asks second shares what was made for the first."""
    counter = Counter()
    memo = Memo(counter.make)

    assert memo("a", (1,)) is memo("a", (1,))
    assert counter.asked == [(1,)]
