"""What a tool takes away from the kernel is found, named and put back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.redirect import pins as kernel
from agent.redirect import records
from agent.redirect.enrolment import Enrolment
from agent.redirect.facts import (
    Fault,
    PodFacts,
    needs_renewal,
    node_faults,
    node_repairs,
    pod_faults,
)
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import PinLayout
from agent.redirect.observed import KernelObserver
from agent.redirect.program import ensure_loaded, unload
from agent.redirect.restored import restore_node, restore_pod
from agent.redirect.tenure import Tenure
from tests.bpf.conftest import MakePod
from tests.bpf.world import BPFFS, SOURCE, Namespace, run, scratch_cgroup, unique


class Node:
    """A set of its own, so that no other test meets what is taken away."""

    def __init__(self, pins: Path, cgroup: Path, pod: Namespace) -> None:
        self.layout, self.pod_namespace = PinLayout(pins), pod
        self.maps = RedirectMaps.open(pins)
        self.tenure = Tenure(pins)
        assert self.tenure.try_take()
        self.enrolment = Enrolment(pins, self.maps)
        self.observer = KernelObserver(pins, cgroup, self.maps, self.tenure)
        self.capture = self.enrolment.capture(pod.name, pod.path, pod.addresses)

    def faults(self) -> list[Fault]:
        return node_faults(self.observer.node()) + pod_faults(self._pod())

    def repair(self) -> None:
        steps = node_repairs(self.observer.node())
        assert not restore_node(self.observer, steps)
        facts = self._pod()
        if needs_renewal(facts):
            assert not restore_pod(self.observer, self.enrolment, self.capture, facts)

    def _pod(self) -> PodFacts:
        where = str(self.pod_namespace.path)
        return self.observer.pod(self.capture, "shop/web", where)

    def close(self) -> None:
        self.enrolment.release(self.capture)
        self.observer.close()
        self.maps.close()
        self.tenure.close()


@pytest.fixture
def node(make_pod: MakePod) -> Iterator[Node]:
    pins = BPFFS / unique("test")
    with scratch_cgroup() as cgroup:
        try:
            ensure_loaded(source=SOURCE, pins=pins, cgroup=cgroup)
            with closing(Node(pins, cgroup, make_pod())) as made:
                assert made.faults() == []
                yield made
        finally:
            unload(pins)


def detach(node: Node) -> None:
    """`podlock redirect remove --force`."""
    unload(node.layout.root, forget_lock=False)


def remove_pins(node: Node) -> None:
    """`rm -r` of the set."""
    for folder in node.layout.folders:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def empty_maps(node: Node) -> None:
    with kernel.opened(node.layout.maps / "enrolled") as fd:
        opened = kernel.PinnedMap(os.dup(fd), "enrolled")
    for key in list(opened):
        opened.delete(key)
    opened.close()
    for address in node.capture.addresses:
        node.maps.unlisten(address)


def detach_pod(node: Node) -> None:
    kernel.unlink(node.layout.netns_link(node.capture.pin))


def detach_here(node: Node) -> None:
    kernel.unlink(node.layout.here_link(node.capture.pin))


def remove_lock(node: Node) -> None:
    node.layout.tenure.rmdir()


def foreign_pin(node: Node) -> None:
    """Another map has the name: a tool, or a second loader."""
    path = node.layout.maps / "enrolled"
    path.unlink()
    with kernel.opened(node.layout.maps / "passage") as fd:
        kernel.pin(fd, path)


@pytest.mark.parametrize(
    ("take_away", "named"),
    [
        (detach, "redirect4: detached"),
        (remove_pins, "pins are missing"),
        (empty_maps, "its entry in the map enrolled is missing"),
        (empty_maps, "no entry in the map listeners"),
        (detach_pod, "sk_lookup link: detached"),
        (detach_here, "namespace link: detached"),
        (remove_lock, "the node lock is gone"),
        (foreign_pin, "pins are other objects: maps/enrolled"),
    ],
)
def test_found_and_put_back(
    node: Node, take_away: Callable[[Node], None], named: str
) -> None:
    """One repair, and the kernel is as it was."""
    take_away(node)
    assert any(named in fault.message for fault in node.faults())

    node.repair()

    assert node.faults() == []
    cookie = records.pack_cookie(node.capture.netns_cookie)
    with kernel.opened(node.layout.maps / "enrolled") as fd:
        pinned = kernel.PinnedMap(os.dup(fd), "enrolled")
    assert pinned.get(cookie) is not None
    pinned.close()
    assert Tenure(node.layout.root).try_take() is False


def test_an_address_that_moved_is_reported(node: Node) -> None:
    """The agent cannot repair that; the pod stays captured."""
    address = node.capture.addresses[0]
    run("ip", "-n", node.pod_namespace.name, "address", "flush", "to", str(address))
    (fault,) = node.faults()
    assert fault.lasting
    assert f"does not have {address} any more" in fault.message
