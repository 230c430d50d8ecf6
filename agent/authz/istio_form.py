"""
A suggestion in Istio's kinds. Pure.

A policy without rules closes the namespace; one for each group of pods allows what was
let in. Istio's selector knows labels that are there, and none that are not: where the
pods of one group have all labels of another, it cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.authz.groups import Group
from agent.authz.reached import Manifest, Reached, network_of
from agent.policy.istio import GROUP

CLOSED = "allow-nothing"


def group(reached: list[Reached], name: str) -> Manifest:
    """What lets in the clients of all ports of one group of pods."""
    pods = reached[0].group
    labels = dict(sorted(pods.labels))
    spec: Manifest = {"selector": {"matchLabels": labels}} if labels else {}
    spec |= {"action": "ALLOW", "rules": [r for each in reached for r in _rules(each)]}
    return _policy(pods.namespace, name, spec)


def closed(namespace: str) -> Manifest:
    """Nobody is let in, but by another policy."""
    return _policy(namespace, CLOSED, {})


def limits(pods: Group, groups: Iterable[Group]) -> Iterator[str]:
    """Where the policy of `pods` holds for others, too."""
    if pods.absent(groups):
        yield (
            f"the policy of {pods.namespace}/{pods.name} also holds for pods that have "
            f"its labels and more: Istio cannot select pods without a label"
        )


def _rules(each: Reached) -> Iterator[Manifest]:
    to = [{"operation": {"ports": [str(each.port)]}}]
    principals = [
        str(identity).removeprefix("spiffe://")
        for identity in sorted(each.clients.identities)
    ]
    if principals:
        yield {"from": [{"source": {"principals": principals}}], "to": to}
    blocks = [network_of(ip) for ip in sorted(each.clients.addresses)]
    if blocks:
        yield {"from": [{"source": {"ipBlocks": blocks}}], "to": to}


def _policy(namespace: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
