"""
May this connection be: a pure function from a request and a policy to a permit.

Order, as Linkerd has it: a port without a Server takes the workload's default; with
one, any of its authorizations is enough; with none that matches, the Server's
`accessPolicy` decides, which is `deny` unless somebody wrote otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.addresses import IPAddress, unmapped
from agent.errors import Refused
from agent.identity.spiffe import SpiffeId
from agent.policy.rule import Authorization, DefaultPolicy, InboundPolicy, PortPolicy

_AUTHENTICATED: Final = frozenset(
    {DefaultPolicy.ALL_AUTHENTICATED, DefaultPolicy.CLUSTER_AUTHENTICATED}
)
_CLUSTER: Final = frozenset(
    {DefaultPolicy.CLUSTER_AUTHENTICATED, DefaultPolicy.CLUSTER_UNAUTHENTICATED}
)


@dataclass(frozen=True, slots=True)
class Request:
    """
    Who (None: plaintext, nobody proved anything) asks from where for which port.

    `source` is the client's own address, `port` the one the application listens on.
    """

    identity: SpiffeId | None
    source: IPAddress
    port: int

    @property
    def client(self) -> str:
        """The client, as a refusal names it."""
        if self.identity is None:
            return f"plaintext from {unmapped(self.source)}"
        return f"identity {self.identity}"


@dataclass(frozen=True, slots=True)
class Permit:
    """Allowed by `rule`; with `audit`, only because that rule logs and lets through."""

    rule: str
    audit: bool = False


class Denied(Refused):
    """Not allowed: `rule` is the object that decided, `reason` says what failed."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule = rule
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def authorize(request: Request, policy: InboundPolicy) -> Permit:
    """
    The permit for `request`, with the rule that gave it.

    Raises: Denied, with the object that decided and a sentence about what failed.
    """
    port = policy.ports.get(request.port)
    if port is None:
        return _by_default(request, policy)
    for authorization in port.authorizations:
        if _admits(authorization, request):
            return Permit(authorization.name)
    return _by_access_policy(request, port, policy)


def _admits(authorization: Authorization, request: Request) -> bool:
    return authorization.admits_identity(
        request.identity
    ) and authorization.admits_source(request.source)


def _by_default(request: Request, policy: InboundPolicy) -> Permit:
    value = policy.default.value
    rule = f"{policy.default_from} default-inbound-policy {value}"
    fault = _refusal(request, policy.default, policy)
    if fault is not None:
        raise Denied(rule, f"{policy.default_from}: default {value} refuses {fault}")
    return Permit(rule, audit=policy.default is DefaultPolicy.AUDIT)


def _by_access_policy(
    request: Request, port: PortPolicy, policy: InboundPolicy
) -> Permit:
    access = port.access_policy
    fault = _refusal(request, access, policy)
    if fault is None:
        rule = f"{port.server} accessPolicy {access.value}"
        return Permit(rule, audit=access is DefaultPolicy.AUDIT)
    reason = f"no authorization of {port.server} matches {request.client}"
    if access is not DefaultPolicy.DENY:
        reason += f", and its accessPolicy {access.value} refuses {fault}"
    raise Denied(port.server, reason + _near_miss(request, port))


def _refusal(
    request: Request, default: DefaultPolicy, policy: InboundPolicy
) -> str | None:
    """What `default` refuses about the request, or None where it lets it through."""
    if default is DefaultPolicy.DENY:
        return request.client
    if default in _AUTHENTICATED and request.identity is None:
        return request.client
    if default in _CLUSTER:
        source = unmapped(request.source)
        if not any(source in network for network in policy.cluster_networks):
            return f"{request.client}: {source} is outside the cluster networks"
    return None


def _near_miss(request: Request, port: PortPolicy) -> str:
    """The authorization that lacked one thing only, for the person who reads this."""
    source = unmapped(request.source)
    for authorization in port.authorizations:
        by_identity = authorization.admits_identity(request.identity)
        by_source = authorization.admits_source(source)
        if by_identity and request.identity is not None:
            return f"; {authorization.name} does not admit it from {source}"
        if by_source and authorization.networks and request.identity is None:
            return f"; {authorization.name} admits {source} only with an identity"
    return ""
