"""The least that has to change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.redirect.plan import Difference, difference

tables = st.dictionaries(st.integers(0, 5), st.integers(0, 2))


def test_nothing_to_do_is_false() -> None:
    """Equal tables ask for no call at all."""
    assert not difference({1: "a"}, {1: "a"})


def test_tells_new_changed_and_gone() -> None:
    """New and changed are put, gone is deleted, equal is left."""
    wanted = {1: "same", 2: "changed", 3: "new"}
    present = {1: "same", 2: "old", 4: "gone"}

    assert difference(wanted, present) == Difference(
        puts={2: "changed", 3: "new"}, deletes=(4,)
    )


@given(tables, tables)
def test_applied_it_makes_what_is_wanted(
    wanted: dict[int, int], present: dict[int, int]
) -> None:
    """Puts, then deletes; nothing is put in vain or both put and deleted."""
    change = difference(wanted, present)

    applied = {**present, **change.puts}
    for key in change.deletes:
        del applied[key]

    assert applied == wanted
    assert all(present.get(key) != value for key, value in change.puts.items())
    assert not change.puts.keys() & set(change.deletes)
