"""What people read is short, true, and cannot play tricks on their terminal."""

from __future__ import annotations

import io
from typing import Any, cast

import msgspec
import pytest
from rich.console import Console

from agent.authz.seen import Seen
from agent.status import flows
from agent.status.documents import Name
from agent.status.events import EventRing
from agent.status.ledger import ConnectionLedger
from agent.status.render import ending, render
from agent.status.tables import lasted
from agent.workload.connection import ConnectionChanged

from .samples import (
    ANCHOR,
    NOW,
    opened,
    refused,
    status,
    workloads,
)


def shown(name: Name, document: Any) -> str:
    """The text of a document, as a wide terminal without colours has it."""
    console = Console(file=io.StringIO(), width=300)
    console.print(render(name, document, NOW))
    return cast("io.StringIO", console.file).getvalue()


class TestKernel:
    def test_what_it_lacks_is_told(self) -> None:
        """Not what it has: a line for each fallback alone."""
        text = shown("status", status())

        assert "without socket destroy: refused" in text
        assert "sk_lookup" not in text


class TestHostileText:
    def test_markup_is_text(self) -> None:
        """A name in brackets is a name, not a colour."""
        ring = EventRing()
        ring.add("tls-failed", "[red]pod[/red]", "\x1b[2Jgone", NOW)

        assert "[red]pod[/red]" in shown("events", ring.document())
        assert "\\u001b[2Jgone" in shown("events", ring.document())


class TestDocuments:
    def test_a_refused_connection_shows_reason_and_rule(self) -> None:
        """Who reads the line knows what to look at."""
        ledger = ConnectionLedger()
        ledger.apply(opened())
        ledger.apply(refused())
        text = shown("connections", ledger.document())

        line = next(line for line in text.splitlines() if "refused" in line)
        assert "no identity [Server shop/api]" in line
        assert "192.0.2.1:5" in line
        assert "shop/api (10.2.0.2:80)" in line
        assert "5s ago" in line
        assert "1 open, 0 closed, 1 refused" in text

    def test_status_says_why_not_ready(self) -> None:
        """The reason stands beside the state, and problems are listed."""
        text = shown("status", status())

        assert "not ready" in text
        assert "worker 1 has not started" in text
        assert "Pod shop/x" in text
        assert "1h, pid 7" in text

    @pytest.mark.parametrize(
        ("mode", "reason", "lost", "text"),
        [
            ("tunnel", None, 0, "tunnel"),
            ("tunnel", "not supported", 0, "tunnel, not direct: not supported"),
            ("direct", None, 0, "direct, pairs: 3"),
            ("direct", None, 2, "direct, pairs: 3, connections not recorded: 2"),
        ],
    )
    def test_status_says_how_a_node_talks_to_itself(
        self, mode: str, reason: str | None, lost: int, text: str
    ) -> None:
        """Tunnel or direct, and why it is not what was asked for."""
        told = {"mode": mode, "reason": reason, "pairs": 3, "unrecorded": lost}
        lines = shown("status", status() | {"same_node": told}).splitlines()
        (line,) = [line for line in lines if line.startswith("same node")]
        assert line.removeprefix("same node").strip() == text

    def test_status_counts_what_audit_lets_in(self) -> None:
        """Where, how often, and what would have denied it."""
        text = shown("status", status())
        line = next(line for line in text.splitlines() if "shop/api:80" in line)
        assert line.split() == ["shop/api:80", "12", "1m", "ago", "Server", "shop/api"]

    def test_seen(self) -> None:
        """A flow in a line."""
        seen = Seen(0)
        seen.apply(
            msgspec.structs.replace(
                opened(), direction="inbound", audit="Server shop/api"
            )
        )
        text = shown("seen", flows.document(seen, "n1"))
        assert "spiffe://cluster.local/ns/shop/sa/web" in text
        assert "shop/api:80" in text

    def test_objects(self) -> None:
        """Kind, namespace and name."""
        metadata = {"name": "api", "namespace": "shop"}
        manifests = [{"kind": "Pod", "metadata": metadata}]
        assert "Pod" in shown("objects", {"manifests": manifests})

    def test_an_audited_connection_says_so(self) -> None:
        """In the place of the rule that let it in."""
        ledger = ConnectionLedger()
        ledger.apply(opened())
        ledger.apply(ConnectionChanged(id="0-1", rule="R", audit="R"))
        assert "would be denied by R" in shown("connections", ledger.document())

    def test_workloads(self) -> None:
        """A pod that is not captured says why."""
        text = shown("workloads", workloads())

        assert "/run/netns/api: no such file" in text
        assert "10.1.0.2, fd00::2" in text

    def test_a_connection_names_the_peers_anchor(self) -> None:
        """Who rotates an anchor sees who still stands on the old one."""
        ledger = ConnectionLedger()
        ledger.apply(opened())
        assert ANCHOR[:12] in shown("connections", ledger.document())

    def test_policies(self) -> None:
        """Each port tells who may, and what holds elsewhere."""
        rule = {"name": "a/web", "identities": ["spiffe://td/w"], "networks": []}
        port = {
            "port": 80,
            "server": "shop/api",
            "access_policy": "deny",
            "authorizations": [rule],
        }
        policy = {
            "workload": "shop/api",
            "default": "deny",
            "default_from": "Pod shop/api",
            "ports": [port],
            "istio": {
                "mutual_tls": {"": "STRICT (Istio PeerAuthentication shop/default)"},
                "denies": ["Istio AuthorizationPolicy shop/no"],
                "allows": [],
                "dry_run": [],
            },
        }
        text = shown("policies", {"policies": [policy, {**policy, "istio": None}]})

        assert "a/web: spiffe://td/w" in text
        assert "deny (from Pod shop/api)" in text
        assert "mutual TLS STRICT (Istio PeerAuthentication shop/default)" in text
        assert "Istio AuthorizationPolicy shop/no refuses by rule" in text

    @pytest.mark.parametrize(
        ("name", "document"),
        [
            ("workloads", {"workloads": [], "counts": {}}),
            ("policies", {"policies": []}),
            ("connections", {"open": [], "recent": [], "counts": {}}),
            ("events", {"events": [], "dropped": 3}),
        ],
    )
    def test_nothing_is_said_to_be_nothing(self, name: Name, document: Any) -> None:
        """An empty list is a sentence, not an empty screen."""
        assert f"no {name}" in shown(name, document)


@pytest.mark.parametrize(
    ("opened", "closed", "outcome", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:17Z", "refused", ("12s", "revoked")),
        (None, "2026-01-02T03:04:17Z", "refused", ("-", "refused")),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z", "closed", ("1s", "closed")),
    ],
)
def test_how_long_a_connection_lasted_and_how_it_ended(
    opened: str | None, closed: str, outcome: str, expected: tuple[str, str]
) -> None:
    """One that lived and lost its permit is no connection that never opened."""
    row = {"opened": opened, "closed": closed, "outcome": outcome}
    assert (lasted(opened, closed, 0.0), ending(row)) == expected
