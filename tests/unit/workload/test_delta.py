"""A change says all that differs between two worlds, and nothing else."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import DeliveryAddress, IPAddress, SocketAddress
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.rule import DefaultPolicy, InboundPolicy, PortPolicy
from agent.proxy.instructions import WorldChanged, WorldUpdated, decode, encode
from agent.workload.delta import Snapshot, VersionGap, apply, diff
from agent.workload.directory import Directory, Endpoint, Peer, VirtualService
from agent.workload.registry import Registry
from tests.bench.control import cluster, moved

TD = TrustDomain("cluster.local")

# Few of each, so that two worlds have much in common.
addresses: st.SearchStrategy[IPAddress] = st.sampled_from(
    [ipaddress.ip_address(f"10.0.0.{n}") for n in range(1, 6)]
    + [ipaddress.ip_address(f"2001:db8::{n}") for n in range(1, 3)]
)
uids = st.sampled_from(["u1", "u2", "u3"])
places = st.builds(SocketAddress, addresses, st.sampled_from([80, 443]))
peers = st.builds(
    Peer,
    uid=uids,
    name=st.sampled_from(["shop/web", "shop/api"]),
    identity=st.sampled_from(
        [SpiffeId.for_workload(TD, "shop", name) for name in ("web", "api")]
    ),
    addresses=st.tuples(addresses),
    meshed=st.booleans(),
    node=st.sampled_from(["n1", "n2"]),
)
endpoints = st.builds(Endpoint, places.map(DeliveryAddress), st.none() | uids)
services = st.builds(
    VirtualService,
    st.sampled_from(["shop/web", "shop/api"]),
    st.sampled_from([80, 443]),
    st.lists(endpoints, max_size=3).map(tuple),
)
policies = st.builds(
    InboundPolicy,
    workload=st.sampled_from(["shop/web", "shop/api"]),
    default=st.sampled_from(DefaultPolicy),
    ports=st.dictionaries(
        st.sampled_from([80, 443]),
        st.builds(PortPolicy, server=st.sampled_from(["Server a/b", "Server a/c"])),
        max_size=2,
    ),
)
directories = st.builds(
    Directory,
    st.dictionaries(addresses, peers, max_size=5),
    st.dictionaries(places, services, max_size=4),
    st.frozensets(addresses, max_size=3),
)
snapshots = st.builds(
    Snapshot, st.integers(0, 9), directories, st.dictionaries(uids, policies)
)


def travelled(snapshot: Snapshot) -> Snapshot:
    """An equal one that shares no object with it."""
    told = decode(encode(WorldUpdated(snapshot)))
    assert isinstance(told, WorldUpdated)
    return told.snapshot


@given(snapshots, snapshots)
def test_the_change_makes_the_new_of_the_old(old: Snapshot, new: Snapshot) -> None:
    """For any two worlds, also after a journey through the channel."""
    before = travelled(old)
    delta = diff(old, new)
    assert apply(old, delta) == new
    told = decode(encode(WorldChanged(delta)))
    assert isinstance(told, WorldChanged)
    assert apply(before, told.delta) == new
    assert before == old


@given(snapshots, snapshots)
def test_equal_worlds_differ_in_nothing(old: Snapshot, new: Snapshot) -> None:
    """Nothing to tell, be they the same object or an equal one, and only then."""
    same = travelled(old)
    assert not diff(old, same)
    assert not diff(old, old)
    assert bool(diff(old, new)) == (replace(old, version=new.version) != new)


@given(snapshots, st.lists(snapshots, max_size=4))
def test_changes_add_up(first: Snapshot, rest: list[Snapshot]) -> None:
    """One after the other they are the last world."""
    world = before = first
    for new in rest:
        world, before = apply(world, diff(before, new)), new
    assert world == before


def test_a_change_of_another_version() -> None:
    """It is refused: half of one world and half of another is none."""
    old, new = Snapshot(3), Snapshot(4)
    with pytest.raises(VersionGap, match="from version 3 came to version 2"):
        apply(Snapshot(2), diff(old, new))


def test_bytes_for_one_pod_among_ten_thousand() -> None:
    """A pod that moves costs its own entry and its service's ten backends."""
    objects = cluster(10_000)
    registry = Registry("node-0", TD)
    old_view = registry.apply(objects)
    new_view = registry.apply(moved(objects, 5000, 0))
    old = Snapshot(1, old_view.directory, old_view.policies)
    new = Snapshot(2, new_view.directory, new_view.policies)

    delta = diff(old, new)
    assert len(encode(WorldChanged(delta))) < 4096
    assert len(encode(WorldUpdated(new))) > 1_000_000
    assert apply(old, delta) == new
