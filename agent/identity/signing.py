"""
The decision of the identity service: may this caller have this certificate?

A node's agent gets the identities of pods that run on its node and no others, so a
stolen node can speak only for its own pods. No I/O: the service and the embedded
authority both ask here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from agent.errors import Refused
from agent.identity import pem
from agent.identity.authority import RESERVED_SEGMENT, Authority
from agent.identity.certificate import Rule, Svid, inspect
from agent.identity.csr import InvalidCsr, check_csr
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.token import AdminCaller, Caller, NodeCaller, WorkloadCaller


class NodeRegistry(Protocol):
    """What runs where, as the API server or the manifests have it."""

    def runs_on(self, node: str, identity: SpiffeId) -> bool:
        """Whether a pod with this identity runs on the node, in the mesh or not."""

    @property
    def pods(self) -> int:
        """How many pods it knows, for who reads a refusal."""


class SigningReason(Enum):
    """Why no certificate; the value is what the caller is told."""

    WRONG_TRUST_DOMAIN = "wrong_trust_domain"
    RESERVED_IDENTITY = "reserved_identity"
    NOT_ON_NODE = "identity_not_on_node"
    NOT_THE_CALLER = "not_the_callers_identity"


class SigningRefused(Refused):
    """No certificate for this request; `identity` is None where it cannot be read."""

    def __init__(
        self,
        reason: SigningReason | Rule,
        message: str,
        identity: SpiffeId | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.identity = identity

    @property
    def code(self) -> str:
        """The reason for programs; for a CSR, the rule that it breaks."""
        if isinstance(self.reason, Rule):
            return f"csr_{self.reason.name.lower()}"
        return self.reason.value


@dataclass(frozen=True, slots=True)
class Authorized:
    """A request that its caller may have signed."""

    csr_der: bytes
    identity: SpiffeId


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just signed."""

    svid: Svid
    chain_pem: bytes


def authorize_request(
    trust_domain: TrustDomain, registry: NodeRegistry, caller: Caller, csr_pem: bytes
) -> Authorized:
    """Judge one request. Raises: SigningRefused with the reason."""
    csr_der, wanted = _read(csr_pem)
    _authorize(trust_domain, registry, caller, wanted)
    return Authorized(csr_der, wanted)


def sign_request(
    authority: Authority, request: Authorized, *, now: datetime, serial: int
) -> Issued:
    """Sign what was authorized. Raises: InvalidAuthority when ours has expired."""
    chain_pem = authority.issue(
        request.csr_der, request.identity, now=now, serial=serial
    )
    leaf, *_ = pem.parse(chain_pem, pem.CERTIFICATE)
    return Issued(inspect(leaf), chain_pem)


def _read(csr_pem: bytes) -> tuple[bytes, SpiffeId]:
    try:
        blocks = pem.parse(csr_pem, pem.CERTIFICATE_REQUEST)
        if len(blocks) != 1:
            message = f"expected one PEM block, found {len(blocks)}"
            raise InvalidCsr(f"CSR: {message}")
        return blocks[0], check_csr(blocks[0]).spiffe_id
    except InvalidCsr as error:
        raise SigningRefused(error.rule, str(error)) from error
    except pem.InvalidPem as error:
        raise SigningRefused(Rule.MALFORMED, str(error)) from error


def _authorize(
    trust_domain: TrustDomain, registry: NodeRegistry, caller: Caller, wanted: SpiffeId
) -> None:
    if wanted.trust_domain != trust_domain:
        reason = SigningReason.WRONG_TRUST_DOMAIN
        message = f"{wanted}: this is the authority of {trust_domain}"
        raise SigningRefused(reason, message, wanted)
    if wanted.path[0] == RESERVED_SEGMENT:
        reason = SigningReason.RESERVED_IDENTITY
        raise SigningRefused(reason, f"{wanted}: is Podlock's own", wanted)
    match caller:
        case NodeCaller(node):
            if not registry.runs_on(node, wanted):
                reason = SigningReason.NOT_ON_NODE
                message = (
                    f"{wanted}: no pod of it runs on node {node}, by the objects that "
                    f"the identity service knows ({registry.pods} pods)"
                )
                raise SigningRefused(reason, message, wanted)
        case WorkloadCaller(own):
            if wanted != own:
                reason = SigningReason.NOT_THE_CALLER
                raise SigningRefused(reason, f"{wanted}: token is for {own}", wanted)
        case AdminCaller():
            reason = SigningReason.NOT_THE_CALLER
            raise SigningRefused(reason, f"{wanted}: token is for admins", wanted)
