"""Certificates, anchors, trust and revocation lists, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.status.tables import cell, or_none, plain, short, table, when


def certificates(document: Mapping[str, Any], now: float) -> RenderableType:
    rows = (
        (
            each["identity"],
            each["state"],
            each["serial"],
            short(each["issuer"]),
            short(each["anchor"]),
            when(each["renewed_at"], now),
            when(each["not_after"], now),
            when(each["renew_at"], now),
            _trouble(each, now),
        )
        for each in document["certificates"]
    )
    columns = (
        *("identity", "state", "serial", "issuer", "anchor"),
        *("renewed", "expires", "renews", "error"),
    )
    return Group(
        or_none(table(columns, rows), "certificates"),
        Text(),
        or_none(_anchors(document["bundle"], now), "anchors"),
        *_revocation_lists(document["revocation_lists"], now),
        Text(),
        _trust(document["trust"]),
    )


def _anchors(bundle: list[Mapping[str, Any]], now: float) -> Table:
    rows = (
        (
            each["fingerprint"],
            each["state"],
            each["subject"],
            when(each["not_after"], now),
        )
        for each in bundle
    )
    return table(("anchor", "state", "subject", "expires"), rows)


def _revocation_lists(
    lists: list[Mapping[str, Any]], now: float
) -> list[RenderableType]:
    if not lists:
        return []
    rows = (
        (
            each["issuer"],
            each["revoked"],
            when(each["next_update"], now),
            "outdated" if each["outdated"] else "current",
        )
        for each in lists
    )
    return [Text(), table(("revocation list of", "revoked", "next", "state"), rows)]


def _trust(trust: Mapping[str, Any]) -> Table:
    installed = ", ".join(
        f"worker {each['worker']}: {plain(each['version'])}"
        for each in trust["workers"]
    )
    facts = [
        ("trust", f"version {plain(trust['version'])}"),
        ("in force", installed),
        ("authority knows of", plain(trust["acknowledged"])),
        *([("not told", trust["error"])] if trust["error"] else []),
        *(("retiring", name) for name in trust["retiring"]),
        *(("tainted", name) for name in trust["tainted"]),
    ]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for key, value in facts:
        grid.add_row(Text(key, style="bold"), cell(value))
    return grid


def _trouble(certificate: Mapping[str, Any], now: float) -> str | None:
    if certificate["error"] is None:
        return None
    return f"{certificate['error']} (since {when(certificate['since'], now)})"
