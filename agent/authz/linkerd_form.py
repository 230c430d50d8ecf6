"""
A suggestion in Linkerd's kinds. Pure.

A Server for each port that was reached, and an AuthorizationPolicy for those who were
let in; the namespace's default closes every other port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.authz.groups import Group
from agent.authz.reached import Manifest, Reached, network_of
from agent.authz.survey import Survey
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.linkerd import GROUP
from agent.policy.rule import DEFAULT_ANNOTATION, DefaultPolicy
from agent.workload.model import Namespace


def port(
    each: Reached, groups: list[Group], trust_domain: TrustDomain
) -> Iterator[Manifest]:
    """What lets in the clients of one port, and nobody else."""
    namespace, name = each.group.namespace, each.name
    selector = each.group.selector(groups)
    spec = {"podSelector": selector, "port": each.port}
    yield _object("v1beta1", "Server", namespace, name, spec)
    if each.clients.identities:
        spec = _identities(sorted(each.clients.identities), namespace, trust_domain)
        yield _object("v1alpha1", "MeshTLSAuthentication", namespace, name, spec)
        yield _rule(namespace, name, "MeshTLSAuthentication", name)
    if each.clients.addresses:
        plain = f"{name}-plaintext"
        networks = [{"cidr": network_of(ip)} for ip in sorted(each.clients.addresses)]
        spec = {"networks": networks}
        yield _object("v1alpha1", "NetworkAuthentication", namespace, plain, spec)
        yield _rule(namespace, plain, "NetworkAuthentication", name)


def _rule(namespace: str, name: str, kind: str, server: str) -> Manifest:
    spec = {
        "targetRef": {"group": GROUP, "kind": "Server", "name": server},
        "requiredAuthenticationRefs": [{"group": GROUP, "kind": kind, "name": name}],
    }
    return _object("v1alpha1", "AuthorizationPolicy", namespace, name, spec)


def _identities(
    identities: Iterable[SpiffeId], within: str, trust_domain: TrustDomain
) -> Manifest:
    """Our own ServiceAccounts by reference, as a person would; others by their ID."""
    refs: list[Manifest] = []
    texts: list[str] = []
    for identity in identities:
        namespace, account = identity.namespace, identity.service_account
        ours = identity.trust_domain == trust_domain
        if not ours or namespace is None or account is None:
            texts.append(str(identity))
            continue
        ref = {"kind": "ServiceAccount", "name": account}
        refs.append(ref if namespace == within else {**ref, "namespace": namespace})
    spec: Manifest = {"identityRefs": refs} if refs else {}
    return {**spec, "identities": texts} if texts else spec


def _object(
    version: str, kind: str, namespace: str, name: str, spec: Manifest
) -> Manifest:
    return {
        "apiVersion": f"{GROUP}/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def closed(name: str, survey: Survey) -> Manifest:
    """The Namespace as it is, with `deny` as its default."""
    known = {item.name: item for item in survey.objects.namespaces}
    namespace = known.get(name, Namespace(name))
    annotations = {
        **namespace.annotations,
        DEFAULT_ANNOTATION: DefaultPolicy.DENY.value,
    }
    metadata: Manifest = {"name": name, "annotations": annotations}
    if namespace.labels:
        metadata["labels"] = dict(namespace.labels)
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
