"""What `podlock config show` prints is the configuration, and can be read back."""

from __future__ import annotations

import json

from agent.config import resolve


def test_a_document_is_plain_and_whole() -> None:
    """Every key has a value that JSON knows and an origin."""
    document = resolve({"node": "n1"}).document()

    assert json.loads(json.dumps(document)) == document
    assert document["values"]["authority"]["listen"] == "127.0.0.1:8443"
    assert document["values"]["identity"]["service"] is None
    assert document["origins"]["node"] == "file"


def test_a_document_reads_back() -> None:
    """Effective values, given as a file, are the same configuration."""
    config = resolve({"node": "n1", "limits": {"drain_seconds": 2}})

    assert resolve(config.document()["values"]) == config
