"""
What control tells a proxy worker. Frozen values; a world comes whole or as a delta.

They travel pickled over a socketpair that only control writes to (DECISIONS.md, 5);
what a worker tells control travels as JSON, because a worker reads hostile input.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass

from agent.addresses import IPAddress
from agent.identity.credential import Credential
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust
from agent.policy.rule import InboundPolicy
from agent.proxy.limits import ProxyLimits
from agent.workload.delta import Delta, Snapshot


@dataclass(frozen=True, slots=True)
class Start:
    """The first one: who this worker is and what bounds it."""

    worker: int
    trust_domain: TrustDomain
    limits: ProxyLimits


@dataclass(frozen=True, slots=True)
class PodCaptured:
    """
    A pod of this node is in the mesh.

    File descriptors ride along: its network namespace, the tunnel listener, the
    inbound listener, then `outbound_listeners` outbound ones.
    """

    uid: str
    name: str
    identity: SpiffeId
    netns_cookie: int
    addresses: tuple[IPAddress, ...]
    policy: InboundPolicy
    outbound_listeners: int

    @property
    def descriptors(self) -> int:
        """How many file descriptors belong to this instruction."""
        return 3 + self.outbound_listeners


@dataclass(frozen=True, slots=True)
class PodReleased:
    """The pod is gone or left the mesh: stop listening, end its connections."""

    uid: str


@dataclass(frozen=True, slots=True)
class CredentialIssued:
    """A new certificate and key for one identity; new handshakes use it at once."""

    credential: Credential


@dataclass(frozen=True, slots=True)
class IdentityForgotten:
    """No pod of this node has the identity any more: forget its key."""

    identity: SpiffeId


@dataclass(frozen=True, slots=True)
class TrustUpdated:
    """What peers' certificates are judged by."""

    trust: Trust


@dataclass(frozen=True, slots=True)
class RevocationsUpdated:
    """The revocation lists in force, as DER that control has read without fault."""

    crls: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class WorldUpdated:
    """The whole world: for a worker that is new, or asked for it."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class WorldChanged:
    """What changed in the world that the worker has."""

    delta: Delta


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer with `Pong` and the same number: the worker reads what it is told."""

    number: int


@dataclass(frozen=True, slots=True)
class CountTraffic:
    """Tell the byte counts of every open connection now."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing new, let what there is finish for so long, then end."""

    seconds: float


Instruction = (
    PodCaptured
    | PodReleased
    | CredentialIssued
    | IdentityForgotten
    | TrustUpdated
    | RevocationsUpdated
    | WorldUpdated
    | WorldChanged
    | CountTraffic
    | Drain
)


def encode(instruction: Start | Ping | Instruction) -> bytes:
    """An instruction as the frame that `decode` reads."""
    return pickle.dumps(instruction, protocol=pickle.HIGHEST_PROTOCOL)


def decode(frame: bytes) -> Start | Ping | Instruction:
    """An instruction from control's frame, which is as trusted as the code itself."""
    told: Start | Ping | Instruction = pickle.loads(frame)  # noqa: S301  (a private socketpair)
    return told
