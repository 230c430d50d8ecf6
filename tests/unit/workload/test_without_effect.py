"""Policies that are valid and change nothing are found, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.authz.survey import Survey
from agent.kube.offline import read_documents
from agent.workload.without_effect import EffectJudge
from tests.unit.authz.samples import (
    TD,
    Manifest,
    api_policy,
    namespace,
    pod,
    policy,
    rule,
    service,
    setting,
    shop,
    spiffe,
)

WEB = spiffe("web").removeprefix("spiffe://")


def istio(name: str, *, namespace: str = "shop", **spec: Any) -> Manifest:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def allow(principal: str = WEB, port: str = "80") -> Manifest:
    source = {"source": {"principals": [principal]}}
    return {"from": [source], "to": [{"operation": {"ports": [port]}}]}


def found(*documents: Manifest, whole: bool = True) -> list[str]:
    objects = read_documents(("test", document) for document in documents)
    if whole:
        settled = Survey.of(objects, setting()).workloads.values()
        objects = replace(objects, workloads=tuple(settled))
    judge = EffectJudge(TD, "istio-system")
    return [str(problem) for problem in judge(objects, whole=whole)]


def test_policies_with_effect() -> None:
    """Nothing is said of them."""
    assert (
        found(
            *shop(*api_policy("web", cidr="10.0.0.0/8")),
            istio("all", rules=[allow()]),
            istio(
                "api",
                selector={"matchLabels": {"app": "api"}},
                rules=[allow(port="81")],
            ),
            istio("none", namespace="istio-system"),
        )
        == []
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            policy(
                "Server", "shop/x", podSelector={"matchLabels": {"app": "x"}}, port=1
            ),
            "Server shop/x: spec.podSelector: matches no pod; it has no effect",
        ),
        (
            policy("Server", "outside/x", podSelector={}, port=1),
            "Server outside/x: spec.podSelector: matches only pods that are not in the "
            "mesh; it has no effect",
        ),
        (
            istio("x", selector={"matchLabels": {"app": "x"}}, rules=[allow()]),
            "Istio AuthorizationPolicy shop/x: spec.selector: matches no pod; it has "
            "no effect",
        ),
        (
            istio("x", namespace="void", rules=[allow()]),
            "Istio AuthorizationPolicy void/x: metadata.namespace: matches no pod; it "
            "has no effect",
        ),
        (
            policy("MeshTLSAuthentication", "shop/x", identities=["*"]),
            "MeshTLSAuthentication shop/x: no AuthorizationPolicy requires it; it has "
            "no effect",
        ),
        (
            policy("NetworkAuthentication", "shop/x", networks=[{"cidr": "::/0"}]),
            "NetworkAuthentication shop/x: no AuthorizationPolicy requires it; it has "
            "no effect",
        ),
    ],
)
def test_without_effect(more: Manifest, said: str) -> None:
    """Each by its title, its field and the reason."""
    assert found(*shop(*api_policy("web")), more) == [said]


def test_a_service_without_endpoints() -> None:
    """That a policy is attached to."""
    target = {"kind": "Service", "name": "gone", "group": ""}
    (said,) = found(
        *shop(service("shop/gone", "10.96.0.7", 80, 80, "gone")),
        istio("x", targetRefs=[target], rules=[allow()]),
    )
    assert "targetRefs[0]: Service shop/gone has no endpoints" in said


class TestShadowed:
    def test_an_istio_rule_by_its_namespaces(self) -> None:
        """The wider scope allows it already."""
        labels = {"matchLabels": {"app": "api"}}
        (said,) = found(
            *shop(),
            istio("all", rules=[{"from": allow()["from"]}]),
            istio("api", selector=labels, rules=[allow()]),
        )
        assert said == (
            "Istio AuthorizationPolicy shop/api: spec.rules[0]: Istio "
            "AuthorizationPolicy shop/all spec.rules[0] allows all that it allows; it "
            "has no effect"
        )

    def test_an_istio_rule_by_the_mesh_s(self) -> None:
        """A policy of the root namespace without a selector is about every pod."""
        (said,) = found(
            *shop(),
            istio("all", namespace="istio-system", rules=[allow()]),
            istio("api", rules=[allow()]),
        )
        assert "istio-system/all spec.rules[0] allows all that it allows" in said

    def test_not_by_another_namespace(self) -> None:
        """Nor by a policy about other pods."""
        labels = {"matchLabels": {"app": "api"}}
        others = {"matchLabels": {"app": "web"}}
        same: list[Manifest] = [allow()]
        assert (
            found(
                *shop(namespace("back"), pod("back/db", "10.0.5.5")),
                istio("a", namespace="back", rules=same),
                istio("b", selector=labels, rules=same),
                istio("c", selector=others, rules=same),
            )
            == []
        )

    def test_an_allow_by_a_deny(self) -> None:
        """What is refused anyway."""
        (said,) = found(
            *shop(),
            istio("no", action="DENY", rules=[{"from": allow()["from"]}]),
            istio("yes", rules=[allow()]),
        )
        assert "shop/no spec.rules[0] refuses all that it allows" in said

    def test_of_two_that_are_the_same_one(self) -> None:
        """The first stays."""
        (said,) = found(
            *shop(), istio("a", rules=[allow()]), istio("b", rules=[allow()])
        )
        assert said.startswith("Istio AuthorizationPolicy shop/b: spec.rules[0]")

    def test_dry_runs_are_left_alone(self) -> None:
        """They are there to be compared with what holds."""
        dry = istio("b", rules=[allow()])
        dry["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
        assert found(*shop(), istio("a", rules=[allow()]), dry) == []

    def test_an_authorization_on_all_servers(self) -> None:
        """Not one that is needed on another Server."""
        everyone = policy("MeshTLSAuthentication", "shop/all", identities=["*"])
        wide = rule("shop/wide", "api", "MeshTLSAuthentication", "all")
        (said,) = found(*shop(*api_policy("web")), everyone, wide)
        assert said == (
            "AuthorizationPolicy shop/api: spec: AuthorizationPolicy shop/wide admits "
            "every client that it admits; it has no effect"
        )
        needed = rule("shop/api", "api", "MeshTLSAuthentication", "api")
        needed["spec"]["targetRef"] = {"kind": "Namespace", "name": "shop"}
        other = policy("Server", "shop/web", podSelector={}, port=81)
        made = [d for d in api_policy("web") if d["kind"] != "AuthorizationPolicy"]
        assert found(*shop(*made), everyone, wide, needed, other) == []


class TestSomeManifests:
    """`policy validate`: of what is not in the files nothing is said."""

    def test_without_pods(self) -> None:
        assert found(*api_policy("web"), whole=False) == []

    def test_with_pods(self) -> None:
        """The selectors of their namespace are judged, in the mesh or not."""
        api = policy(
            "Server", "shop/x", podSelector={"matchLabels": {"app": "x"}}, port=1
        )
        assert found(pod("shop/web"), api, whole=False) == [
            "Server shop/x: spec.podSelector: matches no pod; it has no effect"
        ]
        api = policy("Server", "shop/x", podSelector={}, port=1)
        assert found(pod("shop/web"), api, whole=False) == []

    def test_an_authentication_alone(self) -> None:
        """The policy that requires it may be elsewhere."""
        alone = policy("MeshTLSAuthentication", "shop/x", identities=["*"])
        assert found(alone, whole=False) == []
        assert len(found(alone, *api_policy("web"), whole=False)) == 1


def test_remembered_as_long_as_the_objects_are_the_same() -> None:
    """Asking twice costs once."""
    objects = read_documents([("f", document) for document in shop(*api_policy())])
    judge = EffectJudge(TD, "")
    assert judge(objects) is judge(objects)
