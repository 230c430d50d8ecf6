"""Pods know who they are."""

from __future__ import annotations

from agent.identity.spiffe import TrustDomain
from agent.workload.model import Workload, derived_uid


class TestWorkload:
    def test_identity_is_the_service_account_s(self) -> None:
        """Namespace and ServiceAccount, not the pod's own name."""
        pod = Workload("u", "shop", "api-1", "n1", "api", ())

        assert pod.key == "shop/api-1"
        assert str(pod.identity(TrustDomain("td"))) == "spiffe://td/ns/shop/sa/api"


class TestDerivedUid:
    def test_is_stable_and_its_own(self) -> None:
        """The same for the same pod, another for any other."""
        assert derived_uid("shop", "api") == derived_uid("shop", "api")
        assert derived_uid("shop", "api") != derived_uid("shopa", "pi")
