"""
Linkerd's objects by name, and what a reference from one to another leads to.

A reference that leads nowhere is answered with a sentence that says why.
"""

from __future__ import annotations

from typing import Final

from agent.policy.linkerd import (
    GROUP,
    AuthorizationPolicy,
    LinkerdPolicies,
    MeshTLSAuthentication,
    NetworkAuthentication,
    ObjectRef,
    Server,
    ServerAuthorization,
)
from agent.policy.objects import PolicyObject
from agent.policy.problem import Problem

ObjectName = tuple[str, str]
"""Namespace and name."""

Found = NetworkAuthentication | MeshTLSAuthentication | ObjectRef | str
"""What a required authentication is: an object, a ServiceAccount, or why neither."""

# Kinds that Linkerd's AuthorizationPolicy can target and that need HTTP to enforce.
_ROUTES: Final = frozenset({"httproute", "grpcroute"})


def object_name(item: PolicyObject) -> ObjectName:
    """Namespace and name of `item`."""
    return (item.namespace, item.name)


class ReferenceIndex:
    """The objects by name, for the references between them."""

    def __init__(self, policies: LinkerdPolicies) -> None:
        self._servers: dict[str, dict[ObjectName, Server]] = {}
        for server in sorted(policies.servers, key=object_name):
            self._servers.setdefault(server.namespace, {})[object_name(server)] = server
        self._mesh_tls: dict[ObjectName, MeshTLSAuthentication] = {
            object_name(item): item for item in policies.mesh_tls_authentications
        }
        self._networks: dict[ObjectName, NetworkAuthentication] = {
            object_name(item): item for item in policies.network_authentications
        }

    def targets(
        self, policy: AuthorizationPolicy
    ) -> tuple[tuple[ObjectName, ...], list[Problem]]:
        """The Servers that `policy` authorizes for."""
        target = policy.spec.target_ref
        servers = self._servers.get(policy.namespace, {})
        fault: str
        if target.is_kind(GROUP, "Server"):
            server = (policy.namespace, target.name)
            if server in servers:
                return (server,), []
            fault = f"Server {policy.namespace}/{target.name} does not exist"
        elif target.is_kind("", "Namespace"):
            if target.name == policy.namespace:
                return tuple(servers), []
            fault = f"expected its own namespace, not {target.name}"
        elif target.kind.lower() in _ROUTES:
            fault = (
                f"{target.kind} is not enforceable, podlock does not read HTTP; "
                "target a Server"
            )
        else:
            fault = f"expected a Server or Namespace, not {target.group}/{target.kind}"
        problem = Problem(
            policy.title, "spec.targetRef", f"{fault}; the policy admits nobody"
        )
        return (), [problem]

    def selected(
        self, item: ServerAuthorization
    ) -> tuple[tuple[ObjectName, ...], list[Problem]]:
        """The Servers that a ServerAuthorization is about; only a name can miss."""
        servers = self._servers.get(item.namespace, {})
        selection = item.spec.server
        if selection.selector is not None:
            return tuple(
                name
                for name, server in servers.items()
                if selection.selector.selects(server.metadata.labels)
            ), []
        name = (item.namespace, selection.name or "")
        if name in servers:
            return (name,), []
        fault = f"Server {item.namespace}/{selection.name} does not exist"
        message = f"{fault}; it admits nobody"
        return (), [Problem(item.title, "spec.server.name", message)]

    def required(self, policy: AuthorizationPolicy) -> tuple[Found, ...]:
        """What each required authentication is."""
        refs = policy.spec.required_authentication_refs
        return tuple(self._authentication(policy, ref) for ref in refs)

    def _authentication(self, policy: AuthorizationPolicy, ref: ObjectRef) -> Found:
        """What `ref` demands, or a sentence about why nobody can meet it."""
        namespace = ref.namespace or policy.namespace
        name = (namespace, ref.name)
        if ref.is_kind(GROUP, "NetworkAuthentication"):
            return self._networks.get(name) or _missing(ref, namespace)
        if ref.is_kind(GROUP, "MeshTLSAuthentication"):
            return self._mesh_tls.get(name) or _missing(ref, namespace)
        if ref.is_kind("", "ServiceAccount"):
            return ref
        return (
            "expected a MeshTLSAuthentication, NetworkAuthentication or "
            f"ServiceAccount, not {ref.group}/{ref.kind}"
        )


def _missing(ref: ObjectRef, namespace: str) -> str:
    return f"{ref.kind} {namespace}/{ref.name} does not exist"
