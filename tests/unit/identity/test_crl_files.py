"""Revocation lists on disk: read again on change, and never lost by a bad file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trio

from agent.identity import crl_files
from agent.identity.crl_files import CrlFiles, CrlNews
from tests.unit.identity.crls import PEM, crl
from tests.unit.identity.parts import anchor_at

ISSUER = anchor_at(serial=0x5)
ONE, TWO = crl(ISSUER, 1), crl(ISSUER, 2)


def serials(news: CrlNews | None) -> list[set[int]]:
    assert news is not None
    return [set(each.serials) for each in news.lists]


def settled(files: CrlFiles) -> CrlNews | None:
    """The second look at a change counts."""
    return files.poll() or files.poll()


def test_one_file(tmp_path: Path) -> None:
    """Read at once; told again only when it says something else."""
    path = tmp_path / "ca.crl"
    path.write_bytes(ONE)
    files = CrlFiles(path)
    assert serials(files.poll()) == [{1}]
    assert files.poll() is None
    path.write_bytes(TWO)
    assert files.poll() is None  # it may not be whole yet
    assert serials(files.poll()) == [{2}]


def test_a_directory(tmp_path: Path) -> None:
    """Every file in it, by name; one that goes takes its list with it."""
    (tmp_path / "b.pem").write_bytes(crl(ISSUER, 2, encoding=PEM))
    (tmp_path / "a.crl").write_bytes(ONE)
    (tmp_path / ".hidden").write_bytes(b"noise")
    files = CrlFiles(tmp_path)
    assert serials(files.poll()) == [{1}, {2}]
    (tmp_path / "a.crl").unlink()
    assert serials(settled(files)) == [{2}]


def test_a_mounted_config_map(tmp_path: Path) -> None:
    """`..data` is swapped in one step; the links that lead through it stay."""
    for name, data in (("..1", ONE), ("..2", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.crl").write_bytes(data)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "ca.crl").symlink_to("..data/ca.crl")
    files = CrlFiles(tmp_path)
    assert serials(files.poll()) == [{1}]
    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert serials(settled(files)) == [{2}]


@pytest.mark.parametrize("data", [b"", b"noise", ONE[:-5]])
def test_a_bad_file(tmp_path: Path, data: bytes) -> None:
    """What it said stays in force, the fault is told, and mending it heals."""
    path, other = tmp_path / "a.crl", tmp_path / "b.crl"
    path.write_bytes(ONE)
    other.write_bytes(TWO)
    files = CrlFiles(tmp_path)
    files.poll()
    path.write_bytes(data)
    news = settled(files)
    assert serials(news) == [{1}, {2}]
    assert news is not None
    assert "stays in force" in news.faults[str(path)]
    path.write_bytes(crl(ISSUER, 3))
    news = settled(files)
    assert serials(news) == [{3}, {2}]
    assert news is not None
    assert not news.faults


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    """A mount that failed revokes nobody's revocation."""
    path = tmp_path / "crls"
    path.mkdir()
    (path / "a.crl").write_bytes(ONE)
    files = CrlFiles(path)
    files.poll()
    path.rename(tmp_path / "away")
    news = files.poll()
    assert serials(news) == [{1}]
    assert news is not None
    assert "No such file" in news.faults[str(path)]
    assert files.poll() is None
    (tmp_path / "away").rename(path)
    news = settled(files)
    assert news is not None
    assert not news.faults


def test_never_there(tmp_path: Path) -> None:
    """A path that is wrong from the start is a fault, and no list."""
    news = CrlFiles(tmp_path / "nowhere").poll()
    assert serials(news) == []
    assert news is not None
    assert news.faults


async def test_run(tmp_path: Path, nursery: trio.Nursery) -> None:
    """The task tells what is there before it counts as started, and what comes."""
    path = tmp_path / "ca.crl"
    path.write_bytes(ONE)
    heard: list[CrlNews] = []
    send, receive = trio.open_memory_channel[CrlNews](10)

    def on_change(news: CrlNews) -> None:
        heard.append(news)
        send.send_nowait(news)

    soon = timedelta(milliseconds=5)
    run = lambda task_status: crl_files.run(  # noqa: E731
        path, on_change, interval=soon, task_status=task_status
    )
    await nursery.start(run)
    assert serials(heard[0]) == [{1}]
    path.write_bytes(TWO)
    with trio.fail_after(10):
        await receive.receive()
        assert serials(await receive.receive()) == [{2}]


def test_equal_lists_count_once(tmp_path: Path) -> None:
    """The same list in two files is one."""
    (tmp_path / "a").write_bytes(ONE)
    (tmp_path / "b").write_bytes(ONE)
    assert serials(CrlFiles(tmp_path).poll()) == [{1}]
