"""What PeerAuthentications have no effect is said; the tables have what they do."""

from __future__ import annotations

from tests.unit.policy.tables.block import compiled


def told(objects: str) -> list[tuple[str, str, str]]:
    return [
        (
            item.object.removeprefix("Istio PeerAuthentication "),
            item.field,
            item.message,
        )
        for item in compiled(objects).problems
    ]


def test_a_selector_in_the_root_namespace() -> None:
    """Istio ignores it."""
    ((name, field, message),) = told(
        "Istio PeerAuthentication istio-system/a: {selector: {matchLabels: {a: b}}}"
    )

    assert (name, field) == ("istio-system/a", "spec.selector")
    assert "no effect in the mesh's root namespace" in message


def test_two_of_one_scope() -> None:
    """Of the mesh, of a namespace, of a workload: the other is named."""
    found = told(
        """
        Istio PeerAuthentication istio-system/a: {}
        Istio PeerAuthentication istio-system/b: {}
        Istio PeerAuthentication shop/b: {created: "2026-01-01T00:00:00Z"}
        Istio PeerAuthentication shop/a: {created: "2026-02-01T00:00:00Z"}
        Istio PeerAuthentication jobs/x: {selector: {matchLabels: {app: job}}}
        Istio PeerAuthentication jobs/y: {selector: {matchLabels: {tier: back}}}
        """
    )

    assert [(name, message.partition(" has")[0]) for name, _, message in found] == [
        ("shop/a", "Istio PeerAuthentication shop/b"),
        ("istio-system/b", "Istio PeerAuthentication istio-system/a"),
        ("jobs/y", "Istio PeerAuthentication jobs/x"),
    ]
    assert [message.rpartition(": ")[2] for _, _, message in found] == [
        "it is older",
        "by its name",
        "by its name",
    ]


def test_disable_is_said_to_be_permissive() -> None:
    """For the workload and for a port."""
    found = told(
        """
        Istio PeerAuthentication shop/a:
          selector: {matchLabels: {app: api}}
          mtls: {mode: DISABLE}
          portLevelMtls: {80: {mode: DISABLE}, 81: {mode: STRICT}}
        """
    )

    assert [field for _, field, _ in found] == [
        "spec.mtls.mode",
        "spec.portLevelMtls[80].mode",
    ]
