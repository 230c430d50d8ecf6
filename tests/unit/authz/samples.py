"""A small cluster for questions: manifests in, a survey out."""

from __future__ import annotations

from typing import Any

from agent.addresses import parse_ip
from agent.authz.seen import Flow, Tally
from agent.authz.survey import Setting, Survey
from agent.identity.spiffe import TrustDomain
from agent.kube.offline import read_documents
from agent.policy.compiler import InboundDefaults
from agent.policy.rule import DefaultPolicy
from agent.workload.connection import Path

Manifest = dict[str, Any]

TD = TrustDomain("cluster.local")
ANNOTATION = "config.linkerd.io/default-inbound-policy"
GROUP = "policy.linkerd.io"


def spiffe(account: str, namespace: str = "shop") -> str:
    return f"spiffe://{TD}/ns/{namespace}/sa/{account}"


def namespace(name: str, *, meshed: bool = True, default: str = "") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {"podlock.io/mesh": "enabled"} if meshed else {},
            "annotations": {ANNOTATION: default} if default else {},
        },
    }


def pod(key: str, *addresses: str, node: str = "n1", **labels: str) -> Manifest:
    """A pod with a ServiceAccount of its own name, labelled `app: NAME` and more."""
    within, _, name = key.partition("/")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": within,
            "labels": {"app": name, **labels},
        },
        "spec": {"serviceAccountName": name} | ({"nodeName": node} if node else {}),
        "status": {"podIPs": [{"ip": ip} for ip in addresses]},
    }


def service(key: str, ip: str, port: int, target: int | str, app: str) -> Manifest:
    within, _, name = key.partition("/")
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": within},
        "spec": {
            "clusterIP": ip,
            "selector": {"app": app},
            "ports": [{"port": port, "targetPort": target}],
        },
    }


def policy(kind: str, key: str, **spec: Any) -> Manifest:
    within, _, name = key.partition("/")
    return {
        "apiVersion": f"{GROUP}/{'v1beta3' if kind == 'Server' else 'v1alpha1'}",
        "kind": kind,
        "metadata": {"name": name, "namespace": within},
        "spec": spec,
    }


def api_policy(*accounts: str, cidr: str = "") -> list[Manifest]:
    """Server shop/api on port 80, open to these accounts and to a network."""
    refs = [{"kind": "ServiceAccount", "name": name} for name in accounts]
    made = [
        policy(
            "Server", "shop/api", podSelector={"matchLabels": {"app": "api"}}, port=80
        )
    ]
    if accounts:
        made += [
            policy("MeshTLSAuthentication", "shop/api", identityRefs=refs),
            rule("shop/api", "api", "MeshTLSAuthentication", "api"),
        ]
    if cidr:
        made += [
            policy("NetworkAuthentication", "shop/near", networks=[{"cidr": cidr}]),
            rule("shop/near", "api", "NetworkAuthentication", "near"),
        ]
    return made


def rule(key: str, server: str, kind: str, authentication: str) -> Manifest:
    return policy(
        "AuthorizationPolicy",
        key,
        targetRef={"group": GROUP, "kind": "Server", "name": server},
        requiredAuthenticationRefs=[
            {"group": GROUP, "kind": kind, "name": authentication}
        ],
    )


def shop(*more: Manifest) -> list[Manifest]:
    """web, batch and api in the mesh; outsider in a namespace of its own."""
    return [
        namespace("shop"),
        namespace("outside", meshed=False),
        pod("shop/web", "10.0.1.1", "fd00::1:1"),
        pod("shop/batch", "10.0.1.2"),
        pod("shop/api", "10.0.2.1", "fd00::2:1", node="n2"),
        pod("outside/outsider", "10.0.9.9"),
        service("shop/api", "10.96.0.1", 8000, 80, "api"),
        *more,
    ]


def survey(
    documents: list[Manifest],
    default: DefaultPolicy = DefaultPolicy.ALL_UNAUTHENTICATED,
) -> Survey:
    """What these manifests come to."""
    objects = read_documents(("test", document) for document in documents)
    return Survey.of(objects, setting(default))


def setting(default: DefaultPolicy = DefaultPolicy.ALL_UNAUTHENTICATED) -> Setting:
    import ipaddress

    networks = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
    return Setting(TD, InboundDefaults(default, networks))


def flow(
    client: str,
    destination: str = "shop/api",
    port: int = 80,
    *sources: str,
    allowed: int = 1,
    refused: int = 0,
    path: Path = "tunnel",
) -> tuple[Flow, Tally]:
    """Some connections of `client`, an identity or an address."""
    meshed = client.startswith("spiffe://")
    addresses = sources or (("10.0.1.1",) if meshed else (client,))
    tally = Tally(
        1.0,
        2.0,
        allowed=allowed,
        refused=refused,
        sources={str(parse_ip(ip)): None for ip in addresses},
    )
    kind: Path = path if meshed else "plaintext"
    return Flow(client, meshed, destination, port, kind), tally
