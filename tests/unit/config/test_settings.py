"""What `podlock config show` prints is the configuration, and can be read back."""

from __future__ import annotations

import json

import pytest

from agent.config import ConfigError, resolve


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


def test_same_node_is_one_of_two() -> None:
    """Tunnels unless somebody asks for direct; another word is an error by name."""
    assert resolve({"node": "n1"}).same_node == "tunnel"
    assert resolve({"node": "n1", "same_node": "direct"}).same_node == "direct"
    with pytest.raises(ConfigError, match="same_node: expected one of tunnel, direct"):
        resolve({"node": "n1", "same_node": "fast"})
