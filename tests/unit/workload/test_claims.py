"""One address has one holder, and keeps it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.workload.claims import Contest, settle
from agent.workload.model import Workload
from tests.unit.workload.samples import pod

A, B, C = pod("shop/a"), pod("shop/b"), pod("shop/c")


class TestSettle:
    def test_the_first_by_key_holds_what_nobody_held(self) -> None:
        """Whichever way the claims come."""
        for claims in ([("x", A), ("x", B)], [("x", B), ("x", A)]):
            assert settle(claims, {}) == ({"x": "shop/a"}, (Contest("x", A, B),))

    def test_who_held_it_keeps_it(self) -> None:
        """A newcomer with a smaller name takes nothing over."""
        holders, contests = settle([("x", A), ("x", B)], {"x": "shop/b"})

        assert holders == {"x": "shop/b"}
        assert contests == (Contest("x", B, A),)

    def test_one_with_a_deletion_timestamp_gives_way(self) -> None:
        """Its address may be another's already; alone, it holds it to its end."""
        going = replace(A, terminating=True)
        last = replace(B, terminating=True)
        assert settle([("x", going), ("x", B)], {"x": "shop/a"})[0] == {"x": "shop/b"}
        assert settle([("x", going)], {"x": "shop/b"})[0] == {"x": "shop/a"}
        assert settle([("x", going), ("x", last)], {"x": "shop/b"})[0] == (
            {"x": "shop/b"}
        )

    def test_who_is_gone_holds_nothing(self) -> None:
        """Without a claim the thing is free."""
        assert settle([("x", A)], {"x": "shop/b", "y": "shop/b"}) == (
            {"x": "shop/a"},
            (),
        )

    def test_claiming_twice_is_no_contest(self) -> None:
        """A pod that lists an address twice holds it once."""
        assert settle([("x", A), ("x", A)], {}) == ({"x": "shop/a"}, ())

    @given(
        st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from([A, B, C]))),
        st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["shop/b", "shop/d"])),
    )
    def test_order_never_matters(
        self, claims: list[tuple[str, Workload]], held: dict[str, str]
    ) -> None:
        """Every thing claimed has one holder, who claimed it."""
        holders, _ = settle(claims, held)

        assert settle(reversed(claims), held)[0] == holders
        assert set(holders) == {thing for thing, _ in claims}
        assert set(holders.items()) <= {(thing, item.key) for thing, item in claims}
