"""Everybody who can open a port: pods, identities that are named, networks."""

from __future__ import annotations

import pytest

from agent.authz.party import servers
from agent.authz.reach import Admitted, Reach, who_can
from agent.authz.servers import NoSuchParty
from agent.policy.rule import DefaultPolicy

from .samples import TD, Manifest, api_policy, policy, rule, shop, spiffe, survey

API = "AuthorizationPolicy shop/api"


def ask(*more: Manifest, to: str = "api", port: int = 80) -> Reach:
    cluster = survey(shop(*more))
    (server,) = servers(to, port, cluster)
    return who_can(server, cluster)


def test_some() -> None:
    """The pods that are let in, and the identity that is but has no pod."""
    found = ask(*api_policy("web", "ghost"))
    assert found.identities == (
        Admitted(spiffe("web"), API, ("shop/web",)),
        Admitted(spiffe("ghost"), API),
    )
    assert found.networks == ()


def test_a_network() -> None:
    """It admits plaintext and, from there, anybody in the mesh."""
    found = ask(*api_policy(cidr="10.0.9.0/24"))
    near = "AuthorizationPolicy shop/near"
    assert found.networks == (Admitted("10.0.9.0/24", near, ("outside/outsider",)),)
    assert found.identities == (Admitted("*", near, partly=True),)


def test_everybody() -> None:
    """No Server: the default lets in all, and that is said."""
    found = ask()
    assert {each.who for each in found.identities} == {
        "*",
        spiffe("web"),
        spiffe("batch"),
    }
    assert [each.who for each in found.networks] == ["0.0.0.0/0", "::/0"]


@pytest.mark.parametrize(
    "pattern",
    [
        f"*.shop.serviceaccount.identity.linkerd.{TD}",
        f"*.serviceaccount.identity.linkerd.{TD}",
        f"*.{TD}",
        "*",
    ],
)
def test_patterns(pattern: str) -> None:
    """A pattern is listed as it is written, beside the pods that it covers."""
    server, *_ = api_policy()
    found = ask(
        server,
        policy("MeshTLSAuthentication", "shop/some", identities=[pattern]),
        rule("shop/some", "api", "MeshTLSAuthentication", "some"),
    )
    names = [each.who for each in found.identities]
    assert pattern in names
    assert spiffe("web") in names


def istio(action: str = "ALLOW", **source: list[str]) -> Manifest:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "some", "namespace": "shop"},
        "spec": {"action": action, "rules": [{"from": [{"source": source}]}]},
    }


@pytest.mark.parametrize(
    ("source", "who"),
    [
        ({"principals": [f"{TD}/ns/a/sa/b"]}, spiffe("b", "a")),
        ({"principals": [f"{TD}/ns/a/*"]}, f"spiffe://{TD}/ns/a/*"),
        ({"principals": ["*/sa/web"]}, "spiffe://*/sa/web"),
        ({"namespaces": ["a"]}, f"spiffe://{TD}/ns/a/sa/*"),
        ({"serviceAccounts": ["a/b"]}, spiffe("b", "a")),
    ],
)
def test_istios_names(source: dict[str, list[str]], who: str) -> None:
    """Whatever a rule calls clients by."""
    found = ask(istio("ALLOW", **source))
    assert who in [each.who for each in found.identities]
    assert "*" not in [each.who for each in found.identities]


def test_all_but_one() -> None:
    """Whom a DENY names is told, where everybody else is let in."""
    found = ask(istio("DENY", principals=[f"{TD}/ns/shop/sa/batch"]))
    assert "*" in [each.who for each in found.identities]
    assert found.excluded == (spiffe("batch"),)


def test_nobody() -> None:
    """A Server without an authorization."""
    found = ask(*api_policy())
    assert (found.identities, found.networks) == ((), ())


def test_audit() -> None:
    """Who is let in only to be logged is marked."""
    cluster = survey(shop(), DefaultPolicy.AUDIT)
    (server,) = servers("api", 80, cluster)
    assert all(each.audit for each in who_can(server, cluster).identities)


def test_outside_the_mesh() -> None:
    """There is no policy to ask."""
    with pytest.raises(NoSuchParty, match="not in the mesh"):
        ask(to="outsider", port=22)
