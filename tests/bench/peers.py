"""
Sidecars as data: a program and the templates of its two configurations.

`near` runs beside the client: it takes plaintext at $listen and speaks TLS to
$connect. `far` runs beside the application: it takes TLS at $listen and speaks
plaintext to $connect. Both prove themselves and check the other by $anchors.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final, Literal

import msgspec
import yaml

from tests.bench.credentials import Credentials

FOLDER: Final = Path(__file__).with_name("peers")
SERVER_NAME: Final = "far.bench"
CLIENT_NAME: Final = "near.bench"

Side = Literal["near", "far"]


class InvalidPeer(ValueError):
    """A peer's file that cannot be used; the message names file and field."""


class Peer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of sidecar, as its file describes it."""

    name: str
    command: list[str]
    """The command line, in the foreground; `$config` is the configuration file."""
    near: str
    far: str
    version: list[str]
    """A command whose first lines of output say which version this is."""
    packages: list[str] = []
    """Debian packages that bring it, for whoever lacks it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What one sidecar's configuration is filled in with."""

    directory: Path
    listen: tuple[str, int]
    connect: tuple[str, int]
    credentials: Credentials
    cores: int

    def values(self) -> dict[str, str]:
        """The names that templates may use."""
        return {
            "directory": str(self.directory),
            "config": str(self.directory / "config"),
            "listen": "{}:{}".format(*self.listen),
            "connect": "{}:{}".format(*self.connect),
            "chain": str(self.credentials.chain),
            "key": str(self.credentials.key),
            "both": str(self.credentials.both),
            "anchors": str(self.credentials.anchors),
            "server_name": SERVER_NAME,
            "cores": str(self.cores),
        }


def read(path: Path) -> Peer:
    """Read a peer's file. Raises: InvalidPeer."""
    try:
        peer = msgspec.convert(yaml.safe_load(path.read_text()), Peer)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise InvalidPeer(f"{path}: {error}") from error
    if not peer.command:
        raise InvalidPeer(f"{path}: command: expected a program")
    return peer


def shipped() -> dict[str, Peer]:
    """The peers in `peers/`, by name."""
    return {peer.name: peer for peer in map(read, sorted(FOLDER.glob("*.yaml")))}


def prepare(peer: Peer, side: Side, place: Place) -> list[str]:
    """Write the configuration of one side; return its command line."""
    values = place.values()
    place.directory.mkdir(parents=True, exist_ok=True)
    template = peer.near if side == "near" else peer.far
    config = place.directory / "config"
    config.write_text(_filled(peer, side, template, values))
    return [_filled(peer, "command", each, values) for each in peer.command]


def version(peer: Peer) -> str:
    """What the program says of itself, in one line."""
    try:
        done = subprocess.run(
            peer.version, text=True, capture_output=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return next((line for line in lines if any(c.isdigit() for c in line)), "unknown")


def _filled(peer: Peer, what: str, text: str, values: dict[str, str]) -> str:
    try:
        return Template(text).substitute(values)
    except (KeyError, ValueError) as error:
        raise InvalidPeer(f"{peer.name}: {what}: {error} is not a value") from error
