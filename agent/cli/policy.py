"""
`podlock policy validate FILE...` and `podlock policy crds`: policies before they act.

Needs no agent and no cluster. What is refused here is what the agent would refuse, by
the same functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from agent.cli.group import FAILED
from agent.cli.options import PATH, read, with_config
from agent.cli.output import echo, echo_block

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


@click.group()
def policy() -> None:
    """Check policy objects, and print their definitions for a cluster."""


@policy.command()
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="FILE...")
@click.option("--strict", is_flag=True, help="Fail where something has no effect too.")
@with_config
def validate(
    paths: tuple[Path, ...], strict: bool, file: Path | None, settings: tuple[str, ...]
) -> int:
    """
    Say what is wrong with manifests: files, or directories of them.

    Exit code 1 if the agent would refuse an object; what it would take and not
    enforce as written is a warning. The trust domain, the defaults and the federated
    domains are those of the configuration.
    """
    from agent.cli.authz_source import setting_of
    from agent.kube.validate import validate as judge

    setting = setting_of(read(file, settings))
    files: dict[str, bytes] = {}
    for path in paths:
        for manifest in _files(path):
            try:
                files[str(manifest)] = manifest.read_bytes()
            except OSError as error:
                raise click.ClickException(f"{manifest}: {error.strerror}") from error
    found = judge(files, setting.trust_domain, setting.defaults)
    for problem in found.errors:
        echo(f"error: {problem}")
    for problem in found.warnings:
        echo(f"warning: {problem}")
    count = len(found.errors), len(found.warnings)
    echo(f"{found.objects} objects, {count[0]} errors, {count[1]} warnings")
    return FAILED if found.errors or (strict and found.warnings) else 0


@policy.command()
def crds() -> None:
    """Print the CustomResourceDefinitions of the policy kinds, for kubectl apply."""
    from agent.kube.validate import definitions_as_yaml

    echo_block("---\n".join(definitions_as_yaml().values()), nl=False)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.suffix in SUFFIXES and not file.name.startswith(".")
    )
