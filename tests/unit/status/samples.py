"""Messages and documents that the tests of this folder share."""

from __future__ import annotations

from typing import Any

from agent.workload.connection import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Endpoint,
    Peer,
)

NOW = 1_767_323_045.678  # 2026-01-02T03:04:05.678Z
WEB = Endpoint("10.1.0.2:40000", "shop/web", "spiffe://cluster.local/ns/shop/sa/web")
API = Endpoint("10.2.0.2:80", "shop/api", "spiffe://cluster.local/ns/shop/sa/api")
ANCHOR, ISSUER = "a1" * 32, "b2" * 32
PEER = Peer(
    identity="spiffe://cluster.local/ns/shop/sa/api",
    serial="0a1b",
    not_after=NOW + 3600,
    issued=NOW - 120,
    anchor=ANCHOR,
    issuer=ISSUER,
    shown_serial="0c1d",
    shown_anchor=ANCHOR,
)


def opened(id: str = "0-1", worker: int = 0) -> ConnectionOpened:
    return ConnectionOpened(
        id=id,
        worker=worker,
        direction="outbound",
        path="tunnel",
        source=WEB,
        destination=API,
        opened=NOW - 60,
        peer=PEER,
        rule="AuthorizationPolicy shop/web-may",
    )


def closed(id: str = "0-1") -> ConnectionClosed:
    return ConnectionClosed(
        id=id, outcome="closed", closed=NOW, sent_bytes=10, received_bytes=2048
    )


def refused(id: str = "0-2") -> ConnectionRefused:
    return ConnectionRefused(
        id=id,
        worker=0,
        direction="inbound",
        path="plaintext",
        source=Endpoint("192.0.2.1:5"),
        destination=API,
        closed=NOW - 5,
        reason="no identity",
        rule="Server shop/api",
    )


def status() -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "node": "n1",
        "pid": 7,
        "started": "2026-01-02T02:04:05.678Z",
        "uptime_seconds": 3600.0,
        "trust_domain": "cluster.local",
        "ready": False,
        "not_ready_because": ["worker 1 has not started"],
        "workers": [
            {
                "index": 0,
                "pid": 8,
                "started": "2026-01-02T02:04:05.678Z",
                "restarts": 0,
                "connections": 3,
            },
            {
                "index": 1,
                "pid": None,
                "started": None,
                "restarts": 2,
                "connections": 0,
            },
        ],
        "redirect": {
            "pins": "/sys/fs/bpf/podlock",
            "cgroup": None,
            "loaded": True,
            "verified_at": "2026-01-02T03:04:05.178Z",
            "missing_since": None,
            "faults": [],
            "interruptions": [],
            "features": [
                {"name": "sk_lookup", "level": "native", "reason": None},
                {"name": "socket destroy", "level": "fallback", "reason": "refused"},
            ],
        },
        "dependencies": [],
        "same_node": {"mode": "tunnel", "reason": None, "pairs": 0, "unrecorded": 0},
        "objects_from": {
            "source": "manifests",
            "place": "/etc/podlock/manifests",
            "not_installed": [],
        },
        "identity": {"mode": "embedded", "bundle": ["ab12"], "trust_version": 7},
        "counts": {"workloads": 4},
        "audited": [
            {
                "workload": "shop/api",
                "port": 80,
                "rule": "Server shop/api",
                "connections": 12,
                "last": "2026-01-02T03:03:05.678Z",
            }
        ],
        "problems": [
            {"object": "Pod shop/x", "field": "metadata.name", "message": "expected"}
        ],
        "warnings": [],
    }


def workloads() -> dict[str, Any]:
    def one(name: str, state: str, reason: str | None = None) -> dict[str, Any]:
        return {
            "uid": f"uid-{name}",
            "namespace": "shop",
            "name": name,
            "node": "n1",
            "identity": f"spiffe://cluster.local/ns/shop/sa/{name}",
            "addresses": ["10.1.0.2", "fd00::2"],
            "state": state,
            "reason": reason,
        }

    missing = "/run/netns/api: no such file"
    rows = [one("web", "captured"), one("api", "refused", missing)]
    return {"workloads": rows, "counts": {"captured": 1, "refused": 1}}


def certificates() -> dict[str, Any]:
    return {
        "certificates": [
            {
                "identity": "spiffe://cluster.local/ns/shop/sa/web",
                "serial": "0a1b",
                "not_before": "2026-01-02T02:04:05.678Z",
                "not_after": "2026-01-02T05:04:06.678Z",
                "renew_at": None,
                "fingerprint": "ff",
                "state": "valid",
                "error": "connection refused",
                "since": "2026-01-02T03:03:05.678Z",
                "anchor": ANCHOR,
                "issuer": ISSUER,
                "renewed_at": "2026-01-02T02:54:05.678Z",
            }
        ],
        "bundle": [
            {
                "fingerprint": ANCHOR,
                "subject": "CN=old",
                "not_after": "2026-01-04T03:04:06.678Z",
                "state": "retiring",
            }
        ],
        "trust": {
            "version": 7,
            "workers": [
                {"worker": 0, "version": 7},
                {"worker": 1, "version": None},
            ],
            "acknowledged": 6,
            "error": "identity service: down",
            "retiring": [ANCHOR],
            "tainted": ["c3" * 32],
        },
        "revocation_lists": [
            {
                "issuer": "CN=issuer",
                "revoked": 3,
                "next_update": "2026-01-02T02:04:05.678Z",
                "outdated": True,
            }
        ],
    }
