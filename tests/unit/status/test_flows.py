"""What has been seen, written by one process and read by another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.authz.seen import Seen
from agent.status import flows
from tests.unit.authz.test_seen import opened, outsider, refused


@pytest.fixture
def seen() -> Seen:
    seen = Seen(0)
    for message in (
        opened(audit="Server shop/api"),
        refused(),
        opened(outsider(1), path="plaintext"),
    ):
        seen.apply(message)
    return seen


def test_there_and_back(seen: Seen) -> None:
    """Nothing is lost on the way, but what only the status needs."""
    told = json.loads(json.dumps(flows.document(seen, "n1", 100)))
    read = flows.read(told, "file")
    assert (read.node, read.since, read.until) == ("n1", 0, 100)
    expected = list(seen.flows())
    for _, tally in expected:
        tally.would_deny = None
    assert list(read.flows) == expected


def test_a_report_without_its_end(seen: Seen) -> None:
    """Earlier versions do not write `until`."""
    told = json.loads(json.dumps(flows.document(seen, "n1")))
    del told["until"]
    assert flows.read(told, "file").until is None


def test_audited(seen: Seen) -> None:
    """By pod, port and the rule that would deny it."""
    seen.apply(opened(id="2", audit="Server shop/api", at=30))
    seen.apply(opened(id="3", audit="Server shop/other"))
    rules = {each["rule"]: each for each in flows.audited(seen.flows())}
    assert rules["Server shop/other"]["connections"] == 3
    assert rules["Server shop/other"]["workload"] == "shop/api"


@pytest.mark.parametrize(
    "change",
    [
        {"client": "nonsense"},
        {"client": "spiffe://x"},
        {"port": "80"},
        {"path": "magic"},
        {"last": "yesterday"},
        {"sources": [{"address": "x", "workload": None}]},
    ],
)
def test_bad_input(seen: Seen, change: dict[str, Any]) -> None:
    """An error that says which file."""
    told = json.loads(json.dumps(flows.document(seen, "n1")))
    told["flows"][0] |= change
    with pytest.raises(flows.InvalidSeen, match=r"n1\.json: not what"):
        flows.read(told, "n1.json")


def test_not_a_document() -> None:
    """Any other JSON."""
    with pytest.raises(flows.InvalidSeen):
        flows.read({"a": 1}, "f")
