"""References between policies: what cannot be resolved never widens anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.linkerd import LinkerdPolicies
from agent.policy.objects import PolicyObject
from agent.policy.problem import Problem
from agent.policy.references import LinkerdRules, resolve
from agent.policy.rule import Authorization
from tests.unit.policy.samples import (
    authorization,
    mesh_tls,
    network,
    policies,
    ref,
    server,
)

TRUST_DOMAIN = TrustDomain("cluster.local")
API = ref("Server", "api")
WEB = SpiffeId.for_workload(TRUST_DOMAIN, "shop", "web")
BATCH = SpiffeId.for_workload(TRUST_DOMAIN, "jobs", "batch")
VM = SpiffeId(TRUST_DOMAIN, ("vm", "db"))
SUFFIX = "serviceaccount.identity.linkerd.cluster.local"


def resolved(*objects: PolicyObject) -> tuple[LinkerdRules, tuple[Problem, ...]]:
    return resolve(policies(server("shop/api"), *objects), TRUST_DOMAIN)


def the_one(*objects: PolicyObject) -> Authorization:
    """The only authorization of Server shop/api, from objects without fault."""
    rules, problems = resolved(*objects)
    assert problems == ()
    (found,) = rules.authorizations[("shop", "api")]
    return found


class TestTarget:
    @pytest.mark.parametrize(
        "target",
        [
            ref("Server", "missing"),
            ref("HTTPRoute", "api"),
            {**ref("HTTPRoute", "api"), "group": "gateway.networking.k8s.io"},
            ref("GRPCRoute", "api"),
            ref("Namespace", "other"),
            {"kind": "Server", "name": "api"},
            {"group": "apps", "kind": "Deployment", "name": "api"},
        ],
    )
    def test_a_target_that_we_cannot_enforce_authorizes_nobody(
        self, target: dict[str, str]
    ) -> None:
        """It is reported, and no Server gets the authorization."""
        rules, problems = resolved(authorization("shop/open", target))

        assert rules.authorizations == {}
        assert [(item.object, item.field) for item in problems] == [
            ("AuthorizationPolicy shop/open", "spec.targetRef")
        ]

    def test_a_route_is_named_as_not_enforceable(self) -> None:
        """The message says what to do instead."""
        _, (problem,) = resolved(authorization("shop/a", ref("HTTPRoute", "api")))

        assert "HTTPRoute is not enforceable" in problem.message
        assert "target a Server" in problem.message

    def test_a_namespace_is_all_its_servers(self) -> None:
        """And no Server of another namespace."""
        rules, problems = resolved(
            server("shop/web"),
            server("jobs/api"),
            authorization("shop/all", ref("Namespace", "shop")),
        )

        assert problems == ()
        assert set(rules.authorizations) == {("shop", "api"), ("shop", "web")}

    def test_a_server_of_another_namespace_is_not_reached(self) -> None:
        """`targetRef` is local: jobs cannot open a Server of shop."""
        rules, problems = resolved(authorization("jobs/open", API))

        assert rules.authorizations == {}
        assert len(problems) == 1


class TestRequired:
    def test_nothing_required_admits_anyone(self) -> None:
        """An empty list demands nothing, as Linkerd has it."""
        found = the_one(authorization("shop/open", API))

        assert found == Authorization("AuthorizationPolicy shop/open", None, None)

    @pytest.mark.parametrize(
        "missing",
        [
            ref("MeshTLSAuthentication", "missing"),
            ref("NetworkAuthentication", "missing"),
            ref("MeshTLSAuthentication", "mesh", "jobs"),
            ref("ServiceAccount", "web") | {"group": "apps"},
            ref("User", "web"),
        ],
    )
    def test_what_does_not_exist_is_met_by_nobody(
        self, missing: dict[str, str]
    ) -> None:
        """A dangling reference closes the policy and is reported with its place."""
        mesh = ref("MeshTLSAuthentication", "mesh")
        rules, problems = resolved(
            mesh_tls("shop/mesh", "*"), authorization("shop/a", API, mesh, missing)
        )

        (found,) = rules.authorizations[("shop", "api")]
        assert not found.admits_identity(WEB)
        assert not found.admits_identity(None)
        assert [item.field for item in problems] == [
            "spec.requiredAuthenticationRefs[1]"
        ]

    def test_network_only_admits_plaintext(self) -> None:
        """A NetworkAuthentication alone demands no identity."""
        found = the_one(
            network("shop/net", "10.0.0.0/8"),
            authorization("shop/a", API, ref("NetworkAuthentication", "net")),
        )

        assert found.admits_identity(None)
        assert found.admits_source(parse_ip("10.0.0.1"))
        assert not found.admits_source(parse_ip("192.0.2.1"))

    def test_identity_and_network_must_both_be_met(self) -> None:
        """References in one policy add up."""
        found = the_one(
            mesh_tls("shop/web", str(WEB)),
            network("shop/net", "10.0.0.0/8"),
            authorization(
                "shop/a",
                API,
                ref("MeshTLSAuthentication", "web"),
                ref("NetworkAuthentication", "net"),
            ),
        )

        assert found.identities is not None
        assert found.networks is not None
        assert found.admits_identity(WEB)
        assert not found.admits_identity(BATCH)

    @pytest.mark.parametrize(
        ("first", "second", "admitted"),
        [
            ("*", str(WEB), {WEB}),
            (str(WEB), f"web.shop.{SUFFIX}", {WEB}),
            (f"*.shop.{SUFFIX}", str(WEB), {WEB}),
            (f"*.shop.{SUFFIX}", f"*.{SUFFIX}", {WEB}),
            ("*", f"*.{SUFFIX}", {WEB, BATCH}),
            ("*", "*", {WEB, BATCH, VM}),
            (f"*.shop.{SUFFIX}", str(BATCH), set()),
            (str(WEB), str(BATCH), set()),
            (str(VM), f"*.{SUFFIX}", set()),
        ],
    )
    def test_two_identity_demands_leave_who_meets_both(
        self, first: str, second: str, admitted: set[SpiffeId]
    ) -> None:
        """Two MeshTLSAuthentications in one policy intersect, in either order."""
        for one, other in ((first, second), (second, first)):
            found = the_one(
                mesh_tls("shop/one", one),
                mesh_tls("shop/other", other),
                authorization(
                    "shop/a",
                    API,
                    ref("MeshTLSAuthentication", "one"),
                    ref("MeshTLSAuthentication", "other"),
                ),
            )
            clients = (WEB, BATCH, VM)
            assert {who for who in clients if found.admits_identity(who)} == admitted

    def test_two_network_demands_leave_what_is_in_both(self) -> None:
        """The inner network, without the exceptions of either."""
        found = the_one(
            network("shop/one", "10.0.0.0/8", "10.1.1.0/24"),
            network("shop/other", "10.1.0.0/16", "10.1.2.0/24"),
            authorization(
                "shop/a",
                API,
                ref("NetworkAuthentication", "one"),
                ref("NetworkAuthentication", "other"),
            ),
        )

        admitted = [
            f"10.{second}.{third}.1"
            for second in (0, 1)
            for third in (1, 2, 3)
            if found.admits_source(parse_ip(f"10.{second}.{third}.1"))
        ]
        assert admitted == ["10.1.3.1"]

    def test_a_service_account_is_one_identity(self) -> None:
        """Of the policy's namespace, or of the one that it names."""
        own = the_one(authorization("shop/a", API, ref("ServiceAccount", "web")))
        other = the_one(
            authorization("shop/a", API, ref("ServiceAccount", "batch", "jobs"))
        )

        assert own.admits_identity(WEB)
        assert not own.admits_identity(BATCH)
        assert other.admits_identity(BATCH)
        assert not other.admits_identity(WEB)


class TestMeshTLS:
    @pytest.mark.parametrize(
        "domain", [f"shop.{SUFFIX}", "evil.cluster.local", "local"]
    )
    @pytest.mark.parametrize("written", ["*.local", "*.cluster.local", "Namespace"])
    def test_another_domain_never_matches_names_of_ours(
        self, written: str, domain: str
    ) -> None:
        """A trust domain is compared whole, though its name ends or begins as ours."""
        by_ref = written == "Namespace"
        found = the_one(
            mesh_tls("shop/mesh", refs=[ref("Namespace", "shop")])
            if by_ref
            else mesh_tls("shop/mesh", written),
            authorization("shop/a", API, ref("MeshTLSAuthentication", "mesh")),
        )
        foreign = SpiffeId.for_workload(TrustDomain(domain), "shop", "web")

        assert found.admits_identity(WEB)
        assert not found.admits_identity(foreign)

    def test_identity_refs_are_alternatives(self) -> None:
        """A ServiceAccount or all of a Namespace."""
        refs = [ref("ServiceAccount", "web"), ref("Namespace", "jobs")]
        found = the_one(
            mesh_tls("shop/mesh", refs=refs),
            authorization("shop/a", API, ref("MeshTLSAuthentication", "mesh")),
        )

        assert found.admits_identity(WEB)
        assert found.admits_identity(BATCH)
        assert not found.admits_identity(
            SpiffeId.for_workload(TRUST_DOMAIN, "shop", "api")
        )

    @pytest.mark.parametrize(
        "wrong",
        [
            ref("Namespace", "jobs", "shop"),
            ref("Namespace", "a.jobs"),
            ref("Pod", "web"),
            {"group": "apps", "kind": "Deployment", "name": "web"},
        ],
    )
    def test_an_identity_ref_of_another_kind_matches_nobody(
        self, wrong: dict[str, str]
    ) -> None:
        """It is reported, and the other alternatives stay."""
        rules, problems = resolved(
            mesh_tls("shop/mesh", str(WEB), refs=[wrong]),
            authorization("shop/a", API, ref("MeshTLSAuthentication", "mesh")),
        )

        (found,) = rules.authorizations[("shop", "api")]
        assert found.admits_identity(WEB)
        assert not found.admits_identity(BATCH)
        assert [item.field for item in problems] == ["spec.identityRefs[0]"]

    @pytest.mark.parametrize(
        "useless",
        [
            "spiffe://elsewhere/ns/shop/sa/web",
            "web.shop.serviceaccount.identity.l5d.cluster.local",
            f"*.shop.{SUFFIX}.example",
            "*.example.org",
        ],
    )
    def test_an_identity_that_nobody_can_have_is_reported(self, useless: str) -> None:
        """Another trust domain or control namespace is a rule that never applies."""
        _, problems = resolved(mesh_tls("shop/mesh", useless))

        assert [item.object for item in problems] == ["MeshTLSAuthentication shop/mesh"]
        assert useless in problems[0].message

    def test_what_somebody_can_have_is_not_reported(self) -> None:
        """No noise about good identities."""
        good = ["*", "*.local", f"*.shop.{SUFFIX}", f"web.shop.{SUFFIX}", str(VM)]

        assert resolved(mesh_tls("shop/mesh", *good))[1] == ()


class TestOrder:
    def test_the_oldest_server_comes_first(self) -> None:
        """Then by name; one of unknown age counts as the youngest."""
        rules, _ = resolve(
            policies(
                server("shop/a"),
                server("shop/b", created="2026-02-01T00:00:00Z"),
                server("shop/c", created="2026-01-01T00:00:00Z"),
                server("shop/d", created="2026-02-01T00:00:00Z"),
            ),
            TRUST_DOMAIN,
        )

        assert [item.name for item in rules.servers] == ["c", "b", "d", "a"]

    @given(st.permutations(range(6)))
    def test_order_of_objects_never_matters(self, order: list[int]) -> None:
        """The same objects in any order are the same rules and problems."""
        objects: list[PolicyObject] = [
            server("shop/api"),
            server("shop/web"),
            mesh_tls("shop/mesh", "*"),
            network("shop/net", "10.0.0.0/8"),
            authorization("shop/a", API, ref("MeshTLSAuthentication", "mesh")),
            authorization("shop/b", API, ref("MeshTLSAuthentication", "missing")),
        ]
        straight = resolve(policies(*objects), TRUST_DOMAIN)

        shuffled = policies(*(objects[number] for number in order))
        assert resolve(shuffled, TRUST_DOMAIN) == straight

    def test_no_objects_are_no_rules(self) -> None:
        """Nothing in, nothing out."""
        assert resolve(LinkerdPolicies(), TRUST_DOMAIN) == (LinkerdRules(), ())
