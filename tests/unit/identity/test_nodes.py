"""What nodes reported survives, whatever their names are."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio

from agent.identity.dependence import NodeRecord
from agent.identity.ledger import LedgerUnavailable, NodeLedger
from agent.identity.nodes import NodeRecords
from agent.identity.report import TrustReport
from tests.unit.identity.parts import API, NOW

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "name", ["n1", "a.b-c", str(API), "../../etc/passwd", "é" * 99]
)
def test_any_name_has_a_file_in_its_place(tmp_path: Path, name: str) -> None:
    """A machine that is one workload goes by its SPIFFE ID."""
    records = NodeRecords(tmp_path)
    report = TrustReport(name, 3)
    kept = records.heard({}, report, NOW)
    assert records.load() == {name: kept} == {name: NodeRecord(name, NOW, report)}
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["nodes"]
    assert (records.forget(name), records.forget(name)) == (True, False)
    assert records.load() == {}


def test_a_report_and_what_was_issued_are_one_record(tmp_path: Path) -> None:
    """Each replaces its own part."""
    records = NodeRecords(tmp_path)
    report = TrustReport("n1", 3)
    records.issued(records.load(), "n1", NOW + HOUR)
    kept = records.heard(records.load(), report, NOW)
    assert kept.report == report
    assert kept.holds_until is not None
    assert kept.holds_until >= NOW + HOUR
    # Not every certificate costs a write.
    assert records.issued(records.load(), "n1", NOW + HOUR) == kept


def test_a_torn_file_is_a_node_of_which_we_know_nothing(tmp_path: Path) -> None:
    """It stands in the way until it reports again."""
    records = NodeRecords(tmp_path)
    records.heard({}, TrustReport("n1", 3), NOW)
    (tmp_path / "nodes" / "n1.json").write_bytes(b'{"node')
    (record,) = records.load().values()
    assert (record.node, record.report) == ("n1", None)


async def test_the_ledger_remembers(tmp_path: Path) -> None:
    """In memory for now, in files for a restart."""
    ledger = NodeLedger(tmp_path)
    await ledger.heard(TrustReport("n1", 3), NOW)
    await ledger.issued("n2", NOW + HOUR)
    assert ledger.records.keys() == {"n1", "n2"}
    assert NodeLedger(tmp_path).records == ledger.records


async def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    """An issued certificate of which nobody knows could be cut off unasked."""
    ledger = NodeLedger(tmp_path)
    await trio.Path(tmp_path / "nodes").write_bytes(b"in the way")
    with pytest.raises(LedgerUnavailable, match="nodes"):
        await ledger.heard(TrustReport("n1", 3), NOW)
    with pytest.raises(LedgerUnavailable, match="nodes"):
        await ledger.issued("n1", NOW)
    assert ledger.records == {}


async def test_the_number_of_nodes_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are known go on reporting."""
    monkeypatch.setattr("agent.identity.ledger.MAX_NODES", 1)
    ledger = NodeLedger(tmp_path)
    await ledger.heard(TrustReport("n1", 3), NOW)
    with pytest.raises(LedgerUnavailable, match="more than 1 nodes"):
        await ledger.heard(TrustReport("n2", 3), NOW)
    await ledger.heard(TrustReport("n1", 4), NOW)
