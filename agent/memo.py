"""Results that are kept as long as they would come out the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
V = TypeVar("V")


class Memo(Generic[P, V]):
    """
    A pure function of values, with its last result under each key.

    A result is used again when all arguments are equal to those that made it; the
    very same object is equal at once, so what did not change costs next to nothing.
    """

    def __init__(self, make: Callable[P, V]) -> None:
        self._make = make
        self._last: dict[Hashable, tuple[tuple[object, ...], V]] = {}
        self._used: dict[Hashable, tuple[tuple[object, ...], V]] = {}

    def __call__(self, key: Hashable, *args: P.args, **kwargs: P.kwargs) -> V:
        """`make(*args)`; a key belongs to one set of arguments in a round."""
        assert not kwargs
        known = self._used.get(key) or self._last.get(key)
        if known is None or known[0] != args:
            known = (args, self._make(*args, **kwargs))
        self._used[key] = known
        return known[1]

    def end_round(self) -> None:
        """Forget what nobody asked for in this round."""
        self._last, self._used = self._used, {}
