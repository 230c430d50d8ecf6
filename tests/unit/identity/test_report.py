"""A node's report reads as it was written; anything else is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.identity.report import (
    MAX_REPORT_BYTES,
    InvalidReport,
    PeerTrust,
    Presented,
    TrustReport,
)
from tests.unit.identity.parts import API, NOW

A, B = "a" * 64, "b" * 64
IDENTITY = Presented(API, A, B, (1 << 159) - 1, NOW, NOW)
PEER = PeerTrust(A, B, 3, NOW)
REPORT = TrustReport("n1", 7, (IDENTITY,), (PEER,))


def test_reads_what_it_wrote() -> None:
    """Every field, serial numbers of 20 octets among them."""
    assert TrustReport.parse(REPORT.format()) == REPORT
    assert TrustReport.parse(TrustReport("n1", 0).format()) == TrustReport("n1", 0)


def changed(part: str | None = None, **fields: Any) -> bytes:
    document = json.loads(REPORT.format())
    (document[part][0] if part else document).update(fields)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"{", "truncated"),
        (b"{}", "node"),
        (changed(node=""), "node"),
        (changed(version=-1), "version"),
        (changed("identities", spiffe_id="http://x"), "does not start with spiffe"),
        (changed("identities", anchor="A"), "anchor"),
        (changed("identities", serial="xyz"), "serial"),
        (changed("identities", serial="1" * 41), "serial"),
        (changed("identities", not_after="2026-03-01T12:00:00"), "not_after"),
        (changed("peers", connections=-1), "connections"),
        (changed("peers", oldest="yesterday"), "oldest"),
        (b" " * (MAX_REPORT_BYTES + 1), "more than"),
    ],
)
def test_refuses(document: bytes, message: str) -> None:
    """The message names the field."""
    with pytest.raises(InvalidReport, match=message):
        TrustReport.parse(document)
