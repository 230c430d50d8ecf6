"""What counts as a leak."""

from __future__ import annotations

from tests.soak.inventory import grown, least


def test_only_more_is_a_leak() -> None:
    """Fewer threads or tunnels than before are not; what was not there before is."""
    before = {"descriptors": 20, "threads": 5, "map passage": 0}
    after = {"descriptors": 21, "threads": 3, "map passage": 0, "map new": 2}
    assert grown(before, after) == {"descriptors": 1, "map new": 2}
    assert grown(before, before) == {}


def test_the_least_of_two_moments() -> None:
    """A passing socket is forgotten, a lasting one is in both."""
    one, other = {"a": 1, "b": 5}, {"a": 2, "b": 4, "c": 7}
    assert least(one, other) == {"a": 1, "b": 4, "c": 7}
