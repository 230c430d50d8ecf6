"""
The Kubernetes objects of a lab, as the directory of manifests that agents watch.

Builders return plain dictionaries, so a test can bend one before it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.lab.names import DualStack, service_address
from tests.lab.pod import Pod

Manifest = dict[str, Any]

POLICY_GROUP = "policy.linkerd.io"
DEFAULT_INBOUND = "config.linkerd.io/default-inbound-policy"


def namespace(name: str, *, meshed: bool = True) -> Manifest:
    """A Namespace; `meshed` enrols its pods."""
    labels = {"podlock.io/mesh": "enabled"} if meshed else {}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def pod(
    pod: Pod, *, annotations: dict[str, str] | None = None, **labels: str
) -> Manifest:
    """A running Pod of the lab, labelled `app: NAME`."""
    netns = {"podlock.io/netns": str(pod.netns)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": f"{pod.node}-{pod.namespace}-{pod.name}",
            "labels": {"app": pod.name, **labels},
            "annotations": netns | (annotations or {}),
        },
        "spec": {"nodeName": pod.node, "serviceAccountName": pod.service_account},
        "status": {
            "phase": "Running",
            "podIP": pod.address.v4,
            "podIPs": [{"ip": address} for address in pod.address],
        },
    }


def service(name: str, namespace: str, index: int, **ports: int) -> Manifest:
    """A Service of the pods labelled `app: NAME`, at `service_address(index)`."""
    address: DualStack = service_address(index)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "clusterIP": address.v4,
            "clusterIPs": list(address),
            "ipFamilies": ["IPv4", "IPv6"],
            "selector": {"app": name},
            "ports": [
                {"name": port, "protocol": "TCP", "port": number, "targetPort": number}
                for port, number in ports.items()
            ],
        },
    }


def server(
    name: str, namespace: str, app: str, port: int, access: str = "deny"
) -> Manifest:
    """A Server: the port of the pods labelled `app: APP` that policies talk about."""
    return _policy(
        "v1beta3",
        "Server",
        name,
        namespace,
        podSelector={"matchLabels": {"app": app}},
        port=port,
        accessPolicy=access,
    )


def mesh_tls_authentication(
    name: str, namespace: str, *service_accounts: str
) -> Manifest:
    """A MeshTLSAuthentication: who, by service account of the same namespace."""
    return _policy(
        "v1alpha1",
        "MeshTLSAuthentication",
        name,
        namespace,
        identityRefs=[
            {"kind": "ServiceAccount", "name": account} for account in service_accounts
        ],
    )


def authorization_policy(
    name: str, namespace: str, target_server: str, authentication: str
) -> Manifest:
    """An AuthorizationPolicy: that MeshTLSAuthentication may use that Server."""
    reference = {"group": POLICY_GROUP, "kind": "MeshTLSAuthentication"}
    return _policy(
        "v1alpha1",
        "AuthorizationPolicy",
        name,
        namespace,
        targetRef={"group": POLICY_GROUP, "kind": "Server", "name": target_server},
        requiredAuthenticationRefs=[{**reference, "name": authentication}],
    )


def _policy(
    version: str, kind: str, name: str, namespace: str, **spec: object
) -> Manifest:
    return {
        "apiVersion": f"{POLICY_GROUP}/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


class ManifestDirectory:
    """A directory of manifests; a file is replaced whole, so no reader sees half."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, name: str, *objects: Manifest) -> Path:
        """Write (or replace) the file `NAME.yaml` with these objects."""
        return self.write_text(name, yaml.safe_dump_all(objects, sort_keys=False))

    def write_text(self, name: str, text: str) -> Path:
        """Write (or replace) a file with whatever a test wants to be in it."""
        path = self.path / f"{name}.yaml"
        draft = self.path / f".{name}.draft"
        draft.write_text(text)
        draft.replace(path)
        return path

    def remove(self, name: str) -> None:
        """Remove the file `NAME.yaml`."""
        (self.path / f"{name}.yaml").unlink()
