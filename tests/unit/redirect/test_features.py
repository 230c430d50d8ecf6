"""What follows from what a kernel has."""

from __future__ import annotations

import pytest

from agent.redirect import features
from agent.redirect.features import Level

ALL_WELL = dict.fromkeys(features.ALL)


def test_a_kernel_that_has_all() -> None:
    """Nothing to refuse, nothing to compile differently."""
    outcomes = features.judge(ALL_WELL)

    assert {each.level for each in outcomes} == {Level.NATIVE}
    assert [each.feature for each in outcomes] == list(features.ALL)
    assert features.refusal(outcomes) is None
    assert features.switches(outcomes) == ()


@pytest.mark.parametrize("feature", features.ALL, ids=lambda each: each.name)
def test_one_that_is_missing(feature: features.Feature) -> None:
    """It is done otherwise where that can be, else all is refused, and it says why."""
    outcomes = features.judge(ALL_WELL | {feature: "Invalid argument"})

    (found,) = (each for each in outcomes if each.level is not Level.NATIVE)
    assert (found.feature, found.reason) == (feature, "Invalid argument")
    assert "Invalid argument" in found.message
    assert feature.since in found.message
    refused = features.refusal(outcomes)
    if feature.without:
        assert refused is None
        assert feature.without in found.message
    else:
        assert refused is not None
        assert feature.name in refused


def test_without_the_interface_the_programs_go_by_addresses() -> None:
    """The one fallback that the programs themselves must know of."""
    outcomes = features.judge(ALL_WELL | {features.INTERFACE: "Permission denied"})

    assert features.switches(outcomes) == (features.NO_INGRESS_IFINDEX,)
    assert set(features.switches(outcomes)) <= set(features.SWITCHES)


def test_where_no_program_loads_nothing_else_is_told() -> None:
    """Twelve times the same error would hide the one that matters."""
    outcomes = features.judge(dict.fromkeys(features.ALL, "Operation not permitted"))

    assert [each.feature for each in outcomes] == [features.LOAD]
    assert features.refusal(outcomes) == (
        "bpf: load a program by bpf(2): Operation not permitted (Linux 4.17)"
    )
