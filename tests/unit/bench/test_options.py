"""The arguments of `./run bench`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import options
from tests.bench.cases import FULL, QUICK
from tests.bench.options import InvalidOption
from tests.bench.peers import InvalidPeer

RELAY = "{name: NAME, command: [relay], near: '', far: '', version: [relay]}"


def test_an_unknown_contestant_is_refused_with_those_there_are() -> None:
    """A misspelt name is not left out in silence."""
    with pytest.raises(InvalidOption, match=r"'hapoxy'.*haproxy"):
        options.parse(["--contestants", "plain,hapoxy"])


def test_cases_that_match_nothing_are_refused() -> None:
    """The message lists what there is."""
    with pytest.raises(InvalidOption, match="round trip, 64"):
        options.parse(["--cases", "nothing"])


@pytest.mark.parametrize("name", ["plain", "podlock"])
def test_a_peer_cannot_take_a_name_of_ours(tmp_path: Path, name: str) -> None:
    """Its figures would pass for others."""
    path = tmp_path / "peer.yaml"
    path.write_text(RELAY.replace("NAME", name))
    with pytest.raises(InvalidPeer, match="not a peer's"):
        options.parse(["--peer", str(path)])


def test_by_default_everybody_does_everything() -> None:
    """No mesh and Podlock first; both scopes; quick."""
    chosen = options.parse([])
    assert chosen.contestants == (
        *("plain", "podlock", "podlock-direct"),
        *("haproxy", "nginx", "stunnel"),
    )
    assert chosen.effort == QUICK
    assert len(chosen.scopes) == 2
    assert {peer.name for peer in chosen.entered_peers} == set(chosen.contestants[3:])


def test_full_adds_the_ten_thousand() -> None:
    """Quick has a thousand idle connections, full more."""
    idle = [case.name for case in options.parse(["--full"]).cases if case.once]
    assert idle == ["idle, 1000", "idle, 10000"]
    assert FULL.rounds > QUICK.rounds


def test_a_peer_of_ones_own_takes_part(tmp_path: Path) -> None:
    """By a file, and after the shipped ones."""
    path = tmp_path / "peer.yaml"
    path.write_text(RELAY.replace("NAME", "relay"))
    chosen = options.parse(["--peer", str(path)])
    assert chosen.contestants[-1] == "relay"
    assert chosen.entered_peers[-1].command == ["relay"]


def test_cases_are_chosen_by_their_beginning() -> None:
    """`bulk` is all of bulk, `round trip, 6` is one."""
    chosen = options.parse(["--cases", "bulk", "round trip, 6"])
    names = [case.name for case in chosen.cases]
    assert names == [
        "round trip, 64",
        "bulk up, 1",
        "bulk down, 1",
        "bulk up, 8",
        "bulk down, 8",
    ]
