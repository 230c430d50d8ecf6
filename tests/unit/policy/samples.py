"""Policy objects for tests, as manifests spell them."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.policy.linkerd import (
    GROUP,
    AuthorizationPolicy,
    LinkerdPolicies,
    MeshTLSAuthentication,
    NetworkAuthentication,
    Server,
)
from agent.policy.objects import PolicyObject


def document(kind: str, name: str, spec: object, **metadata: Any) -> dict[str, Any]:
    """A policy object's document; `name` is `namespace/name`."""
    namespace, _, short = name.partition("/")
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": kind,
        "metadata": {"namespace": namespace, "name": short, **metadata},
        "spec": spec,
    }


def server(name: str, port: int | str = 80, **options: Any) -> Server:
    """A Server of all pods, or of those that `app` labels."""
    app = options.pop("app", None)
    created = options.pop("created", "")
    selector = {"matchLabels": {"app": app}} if app else {}
    spec = {"podSelector": selector, "port": port, **options}
    return msgspec.convert(
        document("Server", name, spec, creationTimestamp=created), Server
    )


def ref(kind: str, name: str, namespace: str | None = None) -> dict[str, str]:
    """A reference, in the group that `kind` has."""
    core = kind in ("Namespace", "ServiceAccount")
    found = {"group": "" if core else GROUP, "kind": kind, "name": name}
    return found if namespace is None else {**found, "namespace": namespace}


def authorization(
    name: str, target: dict[str, str], *required: dict[str, str]
) -> AuthorizationPolicy:
    """An AuthorizationPolicy of `target` that demands all of `required`."""
    spec = {"targetRef": target, "requiredAuthenticationRefs": list(required)}
    return msgspec.convert(
        document("AuthorizationPolicy", name, spec), AuthorizationPolicy
    )


def mesh_tls(
    name: str, *identities: str, refs: list[dict[str, str]] | None = None
) -> MeshTLSAuthentication:
    """A MeshTLSAuthentication of identities and of objects that have them."""
    spec: dict[str, Any] = {"identities": list(identities)} if identities else {}
    if refs is not None:
        spec["identityRefs"] = refs
    return msgspec.convert(
        document("MeshTLSAuthentication", name, spec), MeshTLSAuthentication
    )


def network(name: str, cidr: str, *excluded: str) -> NetworkAuthentication:
    """A NetworkAuthentication of one network."""
    spec = {"networks": [{"cidr": cidr, "except": list(excluded)}]}
    return msgspec.convert(
        document("NetworkAuthentication", name, spec), NetworkAuthentication
    )


def policies(*objects: PolicyObject) -> LinkerdPolicies:
    """All `objects`, each where it belongs."""
    return LinkerdPolicies(
        servers=tuple(item for item in objects if isinstance(item, Server)),
        authorization_policies=tuple(
            item for item in objects if isinstance(item, AuthorizationPolicy)
        ),
        mesh_tls_authentications=tuple(
            item for item in objects if isinstance(item, MeshTLSAuthentication)
        ),
        network_authentications=tuple(
            item for item in objects if isinstance(item, NetworkAuthentication)
        ),
    )
