"""`podlock config` shows what holds and refuses what cannot."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from agent.config import load, resolve

from .conftest import Type


def test_check_refuses(type_: Type, tmp_path: Path) -> None:
    """A mistake has file, key and expectation, and exit code 2."""
    file = tmp_path / "podlock.yaml"
    file.write_text("limits:\n  drain: 3\n")

    result = type_("config", "check", "--config", file)

    assert result.exit_code == 2
    assert f"{file}: limits.drain: unknown key" in result.stderr


def test_check_accepts(type_: Type, tmp_path: Path) -> None:
    """A valid file is said to be valid."""
    file = tmp_path / "podlock.yaml"
    file.write_text("node: n1\n")

    assert type_("config", "check", "--config", file).stdout == "valid\n"


def test_show_reads_back(type_: Type, tmp_path: Path) -> None:
    """What is shown is YAML and, as a file, the same configuration."""
    file = tmp_path / "podlock.yaml"
    file.write_text("node: '007'\nredirect: {cgroup: '/sys/fs/cgroup/a: b'}\n")

    shown = type_("config", "show", "--config", file).stdout

    assert resolve(yaml.safe_load(shown)) == load(file, environment={})


def test_show_tells_the_origin(type_: Type) -> None:
    """Whatever is no default has its origin beside it."""
    lines = type_("config", "show", "--set", "workers=2").stdout.splitlines()

    assert "workers: 2  # flag" in lines
    assert "trust_domain: cluster.local" in lines


def test_show_as_json(type_: Type) -> None:
    """Values and origins, for programs."""
    result = type_("config", "show", "--json", "--set", "log.level=debug")
    document = json.loads(result.stdout)

    assert document["values"]["log"]["level"] == "debug"
    assert document["origins"]["log.level"] == "flag"
