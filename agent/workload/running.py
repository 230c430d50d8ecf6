"""Which identities run on which node: all that an authority must know of pods."""

from __future__ import annotations

from collections.abc import Iterable

from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.workload.model import Workload


class Running:
    """
    The pods of a cluster by node, namespace and ServiceAccount.

    A hundred thousand of them are looked through in some 30 ms at a change, where a
    Registry would work out what only the agent of a node needs.
    """

    def __init__(self, trust_domain: TrustDomain) -> None:
        self._trust_domain = trust_domain
        self._pods: frozenset[tuple[str, str, str]] = frozenset()
        self.pods = 0
        """How many there are, on any node."""

    def apply(self, workloads: Iterable[Workload]) -> None:
        """
        These are all the pods.

        One on the host's network has no identity. Nor has a static one: its node made
        the object, in whichever namespace it liked.
        """
        found = [
            (pod.node, pod.namespace, pod.service_account)
            for pod in workloads
            if pod.node and not (pod.host_network or pod.static or pod.finished)
        ]
        self._pods, self.pods = frozenset(found), len(found)

    def runs_on(self, node: str, identity: SpiffeId) -> bool:
        """Whether `node` runs a pod that is `identity`; never by the host network."""
        namespace, account = identity.namespace, identity.service_account
        return (
            identity.trust_domain == self._trust_domain
            and namespace is not None
            and account is not None
            and (node, namespace, account) in self._pods
        )
