"""The names of a lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import names
from tests.lab.names import DualStack, InvalidName, Names

CGROUP2 = Path("/sys/fs/cgroup/unified")


@pytest.mark.parametrize(
    "run", ["", "demo", "podlock-", "podlock-a-b", "podlock-A", "podlock-../x"]
)
def test_a_run_that_clean_up_could_mistake_is_refused(run: str) -> None:
    """Another prefix or an inner dash would let one run remove another's leavings."""
    with pytest.raises(InvalidName):
        Names(run, CGROUP2)


@pytest.mark.parametrize("part", ["", "-web", "web-", "Web", "a/b", "..", "x" * 40])
def test_a_part_that_is_no_plain_name_is_refused(part: str) -> None:
    """A pod's name becomes a file name in three places."""
    with pytest.raises(InvalidName):
        Names("podlock-demo", CGROUP2).namespace("n1", part)


def test_everything_carries_the_run() -> None:
    """Namespace, cgroup, pins and folder of a run are found by its name alone."""
    its = Names("podlock-demo", CGROUP2)
    assert its.namespace("n1", "web") == "podlock-demo-n1-web"
    assert its.namespace_path("n1") == Path("/run/netns/podlock-demo-n1")
    assert its.pod_cgroup("n1", "web") == CGROUP2 / "podlock-demo/n1/web"
    assert its.pins == Path("/sys/fs/bpf/podlock-demo")
    assert its.run_directory == Path("/run/podlock-demo")


def test_an_agent_is_outside_of_what_it_redirects() -> None:
    """No agent lives in the cgroup that a node's programs are attached to."""
    its = Names("podlock-demo", CGROUP2)
    assert not its.host_cgroup("agent-n1").is_relative_to(its.cgroup / "n1")


def test_addresses_of_pods() -> None:
    """A pod's addresses tell its node and its place."""
    address = names.pod_address(2, 3)
    assert address == DualStack("10.244.2.13", "fd00:244:2::13")
    assert address.mapped == "::ffff:10.244.2.13"
    assert list(address) == ["10.244.2.13", "fd00:244:2::13"]


@pytest.mark.parametrize(("node", "index"), [(0, 0), (10, 0), (1, -1), (1, 201)])
def test_an_address_outside_of_the_plan_is_refused(node: int, index: int) -> None:
    """Pod 246 would be 10.244.1.256."""
    with pytest.raises(InvalidName):
        names.pod_address(node, index)


def test_cgroup2_is_found_where_it_is_mounted() -> None:
    """Hybrid machines have it below the tmpfs of cgroup v1."""
    mounts = (
        "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )
    assert names.find_cgroup2(mounts) == CGROUP2


def test_a_machine_without_cgroup2_is_told_so() -> None:
    """The redirect has nowhere to attach."""
    with pytest.raises(InvalidName, match="cgroup v2 is not mounted"):
        names.find_cgroup2("proc /proc proc rw 0 0\n")
