"""
The policy kinds that we read: their names in the API, and the types that they become.

The one table behind the reader of manifests, the validator and the definitions in
`deploy/crds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.policy import istio, linkerd
from agent.policy.objects import PolicyObject


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """
    One kind. The first of `versions` is the one that objects are stored in; `later`
    are fields of `spec` that a version does not know yet.
    """

    group: str
    plural: str
    versions: tuple[str, ...]
    type: type[PolicyObject]
    short_names: tuple[str, ...] = ()
    later: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As manifests have it in `kind`."""
        return self.type.__name__


POLICY_KINDS: Final = (
    PolicyKind(
        linkerd.GROUP,
        "servers",
        ("v1beta3", "v1beta2", "v1beta1"),
        linkerd.Server,
        ("srv",),
        {
            "v1beta2": ("accessPolicy",),
            "v1beta1": ("accessPolicy", "externalWorkloadSelector"),
        },
    ),
    PolicyKind(
        linkerd.GROUP,
        "serverauthorizations",
        ("v1beta1",),
        linkerd.ServerAuthorization,
        ("saz", "serverauthz", "srvauthz"),
    ),
    PolicyKind(
        linkerd.GROUP,
        "authorizationpolicies",
        ("v1alpha1",),
        linkerd.AuthorizationPolicy,
        ("authzpolicy",),
    ),
    PolicyKind(
        linkerd.GROUP,
        "meshtlsauthentications",
        ("v1alpha1",),
        linkerd.MeshTLSAuthentication,
        ("meshtlsauthn",),
    ),
    PolicyKind(
        linkerd.GROUP,
        "networkauthentications",
        ("v1alpha1",),
        linkerd.NetworkAuthentication,
        ("netauthn", "networkauthn"),
    ),
    PolicyKind(
        istio.GROUP,
        "authorizationpolicies",
        istio.VERSIONS,
        istio.AuthorizationPolicy,
        ("ap",),
    ),
    PolicyKind(
        istio.GROUP,
        "peerauthentications",
        istio.VERSIONS,
        istio.PeerAuthentication,
        ("pa",),
    ),
)
POLICY_GROUPS: Final = frozenset(kind.group for kind in POLICY_KINDS)
