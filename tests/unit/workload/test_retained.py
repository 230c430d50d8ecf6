"""A pod that a source does not name stays, unless another one has what it held."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.addresses import parse_ip
from agent.workload.model import Objects, Workload
from agent.workload.retained import with_retained
from tests.unit.workload.samples import pod

WEB = replace(pod("web"), uid="u", netns="/n", addresses=(parse_ip("10.0.0.1"),))
OTHER = replace(pod("other"), uid="v", netns="/m", addresses=(parse_ip("10.0.0.2"),))


def test_a_captured_pod_stays() -> None:
    kept = with_retained(Objects(workloads=(OTHER,)), (WEB, OTHER), {"u", "v"})
    assert kept.workloads == (OTHER, WEB)


def test_one_that_was_never_captured_does_not() -> None:
    assert with_retained(Objects(), (WEB,), ()) == Objects()


@pytest.mark.parametrize(
    "holder",
    [
        replace(OTHER, uid="u"),
        replace(OTHER, name=WEB.name, namespace=WEB.namespace),
        replace(OTHER, netns=WEB.netns),
        replace(OTHER, addresses=WEB.addresses),
    ],
)
def test_what_it_held_may_be_anothers(holder: Workload) -> None:
    objects = Objects(workloads=(holder,))
    assert with_retained(objects, (WEB,), {"u"}) is objects
