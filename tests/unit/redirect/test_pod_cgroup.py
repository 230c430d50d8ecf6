"""Cgroups as drivers and runtimes name them, and who of a pod is believed."""

from __future__ import annotations

import pytest

from agent.redirect.pod_cgroup import (
    InvalidStat,
    Member,
    pod_uid,
    start_time,
    witness,
)

UID = "2c48913c-b29f-11e7-9350-020968147796"
NODE, POD, OTHER = 4026531840, 4026532500, 4026532900


class TestPodUid:
    @pytest.mark.parametrize(
        "name",
        [
            f"pod{UID}",
            "kubepods-pod2c48913c_b29f_11e7_9350_020968147796.slice",
            "kubepods-besteffort-pod2c48913c_b29f_11e7_9350_020968147796.slice",
            "kubelet-kubepods-burstable-pod2c48913c_b29f_11e7_9350_020968147796.slice",
        ],
    )
    def test_drivers(self, name: str) -> None:
        """Cgroupfs writes the uid as it is, systemd without its dashes."""
        assert pod_uid(name) == UID

    @pytest.mark.parametrize(
        "name",
        [
            "kubepods",
            "kubepods.slice",
            "kubepods-besteffort.slice",
            "pod",
            f"pod{UID[:-1]}",
            f"pod{UID}x",
            "pod2c48913c_b29f-11e7-9350-020968147796",
            f"cri-containerd-{UID.replace('-', '')}.scope",
            "crio-conmon-2c48913cb29f11e79350020968147796.scope",
            # A static pod: its uid is its manifest's digest, and no API server's.
            "pod0123456789abcdef0123456789abcdef",
        ],
    )
    def test_others(self, name: str) -> None:
        """Nothing else is taken for a pod's."""
        assert pod_uid(name) is None


class TestStartTime:
    def test_a_name_may_hold_anything(self) -> None:
        """Only what stands after the last parenthesis counts."""
        stat = "17 (a) b) 9 (c) S 1 17 17 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0"
        assert start_time(stat) == 4711

    @pytest.mark.parametrize("stat", ["", "17 (a) S 1", "17 a S" + " 1" * 30])
    def test_no_stat(self, stat: str) -> None:
        """A line that is none is refused, not guessed at."""
        with pytest.raises(InvalidStat):
            start_time(stat)


class TestWitness:
    def test_the_oldest(self) -> None:
        """The sandbox's own process, whatever a container made itself later."""
        pause, container = Member(70, 100, POD), Member(60, 200, OTHER)
        assert witness([container, pause], node=NODE) == pause

    def test_nobody_of_the_node(self) -> None:
        """A monitor is older, a container that has not entered is younger."""
        conmon, pause, early = (
            Member(60, 90, NODE),
            Member(70, 100, POD),
            Member(80, 300, NODE),
        )
        assert witness([conmon, pause, early], node=NODE) == pause
        assert witness([conmon, early], node=NODE) is None

    def test_what_is_held_stays(self) -> None:
        """Also when its sandbox's process has ended and an older stray is there."""
        stray, container = Member(60, 50, OTHER), Member(80, 300, POD)
        assert witness([stray, container], node=NODE, held=POD) == container

    def test_a_new_sandbox(self) -> None:
        """Nobody is left in the namespace that is held."""
        pause = Member(90, 400, OTHER)
        assert witness([pause], node=NODE, held=POD) == pause
        assert witness([], node=NODE, held=POD) is None
