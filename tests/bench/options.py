"""The command line of `./run bench`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from tests.bench import cases, peers
from tests.bench.cases import FULL, QUICK, Case, Effort
from tests.bench.goals import DIRECT, PLAIN, PODLOCK
from tests.bench.peers import InvalidPeer, Peer
from tests.bench.world import SCOPES, Scope


class InvalidOption(ValueError):
    """An argument that names what does not exist; the message lists what does."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and where to write it."""

    effort: Effort
    contestants: tuple[str, ...]
    peers: dict[str, Peer]
    cases: tuple[Case, ...]
    scopes: tuple[Scope, ...]
    json: Path | None
    plot: Path | None
    profile: bool = False

    @property
    def entered_peers(self) -> list[Peer]:
        """The peers that take part."""
        return [self.peers[name] for name in self.contestants if name in self.peers]


def parse(argv: list[str], effort: Effort | None = None) -> Options:
    """Read the arguments. Raises: InvalidOption, InvalidPeer."""
    given = _parser().parse_args(argv)
    effort = effort or (FULL if given.full else QUICK)
    known = peers.shipped()
    for path in given.peer:
        peer = peers.read(path)
        if peer.name in (PLAIN, PODLOCK, DIRECT):
            raise InvalidPeer(f"{path}: name: {peer.name} is not a peer's")
        known[peer.name] = peer
    everyone = (PLAIN, PODLOCK, DIRECT, *known)
    return Options(
        effort=effort,
        contestants=tuple(_chosen("contestant", given.contestants, everyone)),
        peers=known,
        cases=tuple(_matching(given.cases, cases.all_cases(effort))),
        scopes=SCOPES if given.scope is None else (given.scope,),
        json=given.json,
        plot=given.plot,
        profile=given.profile,
    )


def _chosen(what: str, text: str | None, known: tuple[str, ...]) -> list[str]:
    if text is None:
        return list(known)
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in known:
            raise InvalidOption(f"{what} {name!r}: expected one of {', '.join(known)}")
    return names


def _matching(texts: list[str] | None, every: list[Case]) -> list[Case]:
    """The cases whose names begin with one of the texts."""
    if texts is None:
        return every
    found = [case for case in every if case.name.startswith(tuple(texts))]
    if not found:
        names = "; ".join(case.name for case in every)
        raise InvalidOption(f"cases {texts}: expected the beginning of one of: {names}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run bench", description="Podlock beside no mesh and beside sidecars."
    )
    add = parser.add_argument
    add("--full", action="store_true", help="longer runs, more rounds, 10,000 idle")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--plot", type=Path, metavar="FILE", help="write FILE.svg and FILE.png")
    add("--profile", action="store_true", help="flame graphs of the workers: build/")
    add("--contestants", metavar="A,B", help="only these, in this order")
    add(
        "--cases",
        nargs="+",
        metavar="CASE",
        help="only cases that begin so: bulk, 'round trip, 1'",
    )
    add("--scope", choices=SCOPES, help="only inside a node, or only across the wire")
    add(
        "--peer",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="another sidecar, described as in tests/bench/peers/",
    )
    return parser
