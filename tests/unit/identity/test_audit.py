"""No certificate leaves without a line that is on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from agent.identity.audit import AuditFile, AuditUnavailable, read_entries
from agent.identity.csr import make_csr
from agent.identity.key import PrivateKey
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.token import NodeCaller
from tests.unit.identity.parts import API, at_work, make_authority

AUTHORITY = make_authority()
NODE = NodeCaller("n1", "id-1")


def csr() -> bytes:
    return format_blocks([make_csr(API, PrivateKey.generate())], CERTIFICATE_REQUEST)


async def test_says_who_got_what(tmp_path: Path) -> None:
    """Identity, serial, node and end; a second process adds to the same file."""
    path = tmp_path / "audit.jsonl"
    issued = []
    for _ in range(2):
        issuance = at_work(AUTHORITY, ("n1", API), audit=AuditFile(path))
        issued.append(await issuance.sign(NODE, csr()))
    entries, _ = read_entries(path)
    assert [entry["serial"] for entry in entries] == [
        f"{each.svid.serial:x}" for each in issued
    ]
    assert {
        key: entries[0][key] for key in ("identity", "node", "not_after", "at")
    } == {
        "identity": str(API),
        "node": "n1",
        "not_after": "2026-03-02T12:00:00+00:00",
        "at": "2026-03-01T12:00:00+00:00",
    }
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_full_disk_stops_issuance(tmp_path: Path) -> None:
    """/dev/full answers as a full disk does: the caller gets nothing."""
    path = tmp_path / "audit.jsonl"
    path.symlink_to("/dev/full")
    issuance = at_work(AUTHORITY, ("n1", API), audit=AuditFile(path))
    with pytest.raises(AuditUnavailable, match="No space left on device"):
        await issuance.sign(NODE, csr())
    assert issuance.counts == {"failed:AuditUnavailable": 1}
    path.unlink()
    await issuance.sign(NODE, csr())
    assert len(read_entries(path)[0]) == 1


async def test_many_share_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come while a line is written go together in the next write."""
    audit = AuditFile(tmp_path / "audit.jsonl")
    writes = 0
    write = AuditFile._write

    def counted(self: AuditFile, batch: object) -> None:
        nonlocal writes
        writes += 1
        write(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(AuditFile, "_write", counted)
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(audit.append, {"number": number})
    entries, _ = read_entries(tmp_path / "audit.jsonl")
    assert sorted(entry["number"] for entry in entries) == list(range(50))
    assert writes <= 2


async def test_a_moved_file_is_begun_anew(tmp_path: Path) -> None:
    """As logrotate does it, without a signal."""
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(path)
    await audit.append({"number": 1})
    await trio.Path(path).rename(tmp_path / "audit.jsonl.1")
    await audit.append({"number": 2})
    entries, _ = read_entries(path)
    assert [entry["number"] for entry in entries] == [1, 2]


async def test_a_full_file_is_moved_and_some_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.identity.audit.ROTATE_BYTES", 40)
    monkeypatch.setattr("agent.identity.audit.KEPT_FILES", 3)
    path = tmp_path / "audit.jsonl"
    audit = AuditFile(path)
    for number in range(20):
        await audit.append({"number": number})
    names = sorted(os.listdir(tmp_path))
    assert names == ["audit.jsonl", *(f"audit.jsonl.{n}" for n in (1, 2, 3))]
    entries, damaged = read_entries(path)
    numbers = [entry["number"] for entry in entries]
    assert numbers == list(range(20 - len(numbers), 20))
    assert len(numbers) >= 9
    assert not damaged


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    """It was cut before anyone got that certificate; how many there are is told."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"number":1}\n{"num\n{"number":2}\n')
    entries, damaged = read_entries(path)
    assert ([entry["number"] for entry in entries], damaged) == ([1, 2], 1)
