"""What a read of the objects leaves as it was about captured pods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.addresses import parse_ip
from agent.workload.model import Objects, Workload
from agent.workload.retained import with_retained
from tests.unit.workload.samples import pod

WEB = replace(pod("web"), uid="u", netns="/n", addresses=(parse_ip("10.0.0.1"),))
OTHER = replace(pod("other"), uid="v", netns="/m", addresses=(parse_ip("10.0.0.2"),))
CAPTURED = {"u": WEB}


def read(*pods: Workload, complete: bool) -> tuple[Workload, ...]:
    return with_retained(Objects(workloads=pods), CAPTURED, complete=complete).workloads


class TestAReadInPart:
    def test_a_captured_pod_stays(self) -> None:
        assert read(OTHER, complete=False) == (OTHER, WEB)

    def test_one_that_was_never_captured_does_not(self) -> None:
        assert with_retained(Objects(), {}, complete=False) == Objects()

    @pytest.mark.parametrize(
        "claimant",
        [replace(OTHER, netns=WEB.netns), replace(OTHER, addresses=WEB.addresses)],
    )
    def test_what_it_holds_stays_its_own(self, claimant: Workload) -> None:
        assert read(claimant, complete=False) == (claimant, WEB)

    def test_a_name_belongs_to_one_object(self) -> None:
        """Another uid of the same name: the old object is gone, whatever is unread."""
        again = replace(OTHER, name=WEB.name, namespace=WEB.namespace)
        assert read(again, complete=False) == (again,)


class TestACompleteRead:
    def test_says_who_is_gone(self) -> None:
        assert read(OTHER, complete=True) == (OTHER,)

    @pytest.mark.parametrize("complete", [True, False])
    def test_a_namespace_that_is_not_known_any_more_is_the_last_one(
        self, complete: bool
    ) -> None:
        lost = replace(WEB, netns=None)
        assert read(lost, complete=complete) == (WEB,)

    def test_unless_another_pod_is_in_it(self) -> None:
        lost, newcomer = replace(WEB, netns=None), replace(OTHER, netns=WEB.netns)
        assert read(lost, newcomer, complete=True) == (lost, newcomer)

    def test_a_pod_that_moved_is_where_it_says(self) -> None:
        moved = replace(WEB, netns="/new")
        assert read(moved, complete=True) == (moved,)
