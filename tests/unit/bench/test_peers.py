"""Peers' files and their templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import peers
from tests.bench.credentials import Credentials
from tests.bench.peers import InvalidPeer, Peer, Place, Side

SIDES: tuple[Side, Side] = ("near", "far")


def place(directory: Path) -> Place:
    """A sidecar in `directory`."""
    chain, key = directory / "chain", directory / "key"
    credentials = Credentials(chain, key, directory / "both", directory / "anchors")
    return Place(directory, ("127.0.0.1", 1), ("10.0.0.2", 2), credentials, cores=3)


def peer(**changed: object) -> Peer:
    """A small peer."""
    fields = {"command": ["relay", "$config"], "near": "", "far": "", "version": ["x"]}
    return Peer(**{"name": "relay", **fields, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[]", "object"),
        ("name: [", "parsing"),
        ("{name: a, command: [], near: '', far: '', version: [a]}", "command"),
        ("{name: a, command: [a], near: '', version: [a]}", "far"),
        ("{name: a, command: [a], near: '', far: '', version: [a], x: 1}", "x"),
        ("{name: a, command: a, near: '', far: '', version: [a]}", "command"),
    ],
)
def test_a_file_that_is_no_peer_is_refused(
    tmp_path: Path, text: str, what: str
) -> None:
    """The message names the file and what is wrong in it."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InvalidPeer, match=what) as caught:
        peers.read(path)
    assert "bad.yaml" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """As an error of the input, not as a traceback."""
    with pytest.raises(InvalidPeer, match="missing"):
        peers.read(tmp_path / "missing.yaml")


@pytest.mark.parametrize("text", ["$nothing", "${", "50 $ a day"])
def test_a_template_with_an_unknown_name_is_refused(tmp_path: Path, text: str) -> None:
    """A misspelt name never ends up in a configuration."""
    with pytest.raises(InvalidPeer, match="relay: near"):
        peers.prepare(peer(near=text), "near", place(tmp_path))


def test_templates_are_filled_in(tmp_path: Path) -> None:
    """The configuration is written, the command names it, each side has its own."""
    own = peer(near="from $listen to $connect", far="$cores {braces} $$5")
    command = peers.prepare(own, "near", place(tmp_path))
    config = tmp_path / "config"
    assert command == ["relay", str(config)]
    assert config.read_text() == "from 127.0.0.1:1 to 10.0.0.2:2"
    peers.prepare(own, "far", place(tmp_path))
    assert config.read_text() == "3 {braces} $5"


def test_the_shipped_peers_are_three_and_whole(tmp_path: Path) -> None:
    """Each asks for TLS 1.3 and checks the other side's certificate, on both sides."""
    shipped = peers.shipped()
    assert set(shipped) == {"haproxy", "nginx", "stunnel"}
    for each in shipped.values():
        for side in SIDES:
            peers.prepare(each, side, place(tmp_path))
            text = (tmp_path / "config").read_text()
            assert "TLSv1.3" in text
            assert str(tmp_path / "anchors") in text
            assert "verify" in text.lower()


def test_a_version_is_one_line(tmp_path: Path) -> None:
    """The first line with a number; a program that is not there is no error."""
    assert peers.version(peer(version=["echo", "hello\nv 1.2\nbuilt"])) == "v 1.2"
    assert "unknown" in peers.version(peer(version=[str(tmp_path / "none")]))
