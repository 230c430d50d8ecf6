"""The paths as data, and the policy that guards them."""

from __future__ import annotations

from tests.soak import paths
from tests.soak.paths import DIRECT, PATHS, runnable, setting_key
from tests.soak.world import guards

PODS = {
    name
    for group in (paths.MESHED, paths.UNMESHED)
    for names in group.values()
    for name in names
}


def test_every_path_has_its_pods() -> None:
    """And what is revoked is guarded, or there would be nothing to take back."""
    for path in PATHS:
        assert {path.client, path.server} <= PODS
        assert path.guarded or not path.revocable


def test_direct_runs_where_the_setting_is_known() -> None:
    """Whatever section it is in; without it the path is not run."""
    assert setting_key(DIRECT, ["workers", "same_node"]) == "same_node"
    assert setting_key(DIRECT, ["proxy.same_node"]) == "proxy.same_node"
    assert setting_key(DIRECT, ["not_same_node"]) is None
    (direct,) = (path for path in PATHS if path.name == "direct")
    assert runnable(direct, ["same_node"])
    assert not runnable(direct, ["workers"])
    assert all(runnable(path, []) for path in PATHS if path.needs is None)


def clients(revoked: list[str]) -> list[str]:
    objects = guards(PATHS, revoked)
    authentication = next(
        each
        for each in objects
        if each["kind"] == "MeshTLSAuthentication"
        and each["metadata"]["name"] == "api-9100"
    )
    return [each["name"] for each in authentication["spec"]["identityRefs"]]


def test_a_revoked_path_loses_its_client_alone() -> None:
    """Its neighbour on the same port keeps its permit."""
    assert clients([]) == ["web", "batch"]
    assert clients(["tunnel, revoked"]) == ["web"]
