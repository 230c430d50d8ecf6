"""What control knows, as direct connections are judged by it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from agent.addresses import IPAddress, parse_ip
from agent.app.world import world_of
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.redirect.enrolment import Capture
from agent.workload.model import Namespace, Objects
from agent.workload.registry import NodeView, Registry
from tests.unit.workload import samples

TD = TrustDomain("cluster.local")
WEB = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/default")
HELD = (parse_ip("10.0.0.1"), parse_ip("fd00::1"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


def view(*addresses: str) -> NodeView:
    pods = (samples.pod("shop/web", *addresses),) if addresses else ()
    shop = Namespace("shop", {"podlock.io/mesh": "enabled"})
    return Registry("n1", TD).apply(Objects(workloads=pods, namespaces=(shop,)))


def capture(listener: socket.socket, addresses: tuple[IPAddress, ...]) -> Capture:
    return Capture("uid-shop-web", 9, 1, addresses, (listener,), listener, listener)


def test_a_captured_pod(listener: socket.socket) -> None:
    """With its name, identity, policy and namespace."""
    held = {"uid-shop-web": capture(listener, HELD)}
    world = world_of(view("10.0.0.1", "fd00::1"), held, TD, [WEB])
    (web,) = world.residents
    assert (web.name, web.identity, web.netns) == ("shop/web", WEB, 1)
    assert web.addresses == HELD
    assert world.namespaces == {1: 9}
    assert world.certified == {WEB}


def test_an_address_counts_when_both_agree(listener: socket.socket) -> None:
    """One that the pod has no more, or is not captured with yet, is nobody's."""
    held = {"uid-shop-web": capture(listener, HELD)}
    (web,) = world_of(view("fd00::1", "10.0.0.9"), held, TD, []).residents
    assert web.addresses == HELD[1:]


def test_not_captured_yet() -> None:
    """A pod that waits is no resident."""
    assert not world_of(view("10.0.0.1"), {}, TD, []).residents


def test_one_that_left(listener: socket.socket) -> None:
    """It is no resident, and its namespace is there until it is released."""
    world = world_of(view(), {"uid-shop-web": capture(listener, HELD)}, TD, [])
    assert not world.residents
    assert world.namespaces == {1: 9}
