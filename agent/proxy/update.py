"""
A new world in a worker: what it means for what is live.

One synchronous step, so that no connection is decided between an old directory and
a new policy.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.policy.rule import InboundPolicy
from agent.proxy.instructions import WorldChanged, WorldUpdated
from agent.proxy.live import LiveConnection, Register, Revoked
from agent.proxy.pod import LocalPod
from agent.proxy.pool import Pool, PoolKey
from agent.proxy.world import World
from agent.workload.delta import VersionGap
from agent.workload.directory import Directory


def update(
    told: WorldUpdated | WorldChanged,
    world: World,
    pods: Mapping[str, LocalPod],
    register: Register,
    pool: Pool,
) -> str | None:
    """
    Take control's word: policies in force, those connections judged again whose
    pod's policy changed, tunnels to pods that are no longer there purged.

    Returns why the whole world is wanted, once, where the word does not follow on
    what we have; until the whole comes the last whole state stays in force.
    """
    try:
        world.take(told)
    except VersionGap as gap:
        asked, world.asked = world.asked, True
        return None if asked else str(gap)
    # All that were told, not only those that differ: rules travel as their index, which
    # cannot be compared (see policy.index), and to judge once too often is harmless.
    changed = {uid: policy for uid, policy in _policies(told).items() if uid in pods}
    for uid, policy in changed.items():
        pods[uid].policy = policy
    if changed:
        register.judge_again(changed)
    directory = world.known()
    # All of them, not only those at addresses that changed: a tunnel that was still
    # shaking hands at the last change was not there to be purged.
    pool.purge(
        lambda key: _is_stale(key, directory), "the destination is another workload now"
    )
    # The same pod under another identity: what is open was judged by the old one.
    pool.drain(lambda key: _is_renamed(key, directory))
    for live in register.passing_through():
        _stop_plaintext(live, directory)
    return None


def _policies(told: WorldUpdated | WorldChanged) -> Mapping[str, InboundPolicy]:
    if isinstance(told, WorldUpdated):
        return told.snapshot.policies
    return told.delta.policies.puts


def _is_stale(key: PoolKey, directory: Directory) -> bool:
    peer = directory.peer_at(key.address.ip)
    return peer is None or peer.uid != key.peer_uid


def _is_renamed(key: PoolKey, directory: Directory) -> bool:
    peer = directory.peer_at(key.address.ip)
    return peer is not None and peer.identity != key.peer


def _stop_plaintext(live: LiveConnection, directory: Directory) -> None:
    """A destination that joins the mesh is not spoken to in plaintext any more."""
    assert live.outside is not None
    peer = directory.peer_at(live.outside.ip)
    if peer is not None and peer.meshed and peer.uid != live.pod.uid:
        live.revoke(Revoked(f"{peer.name} is in the mesh now"))
