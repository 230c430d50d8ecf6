"""
The schema: every key with what it takes, read off the classes in `settings`.

`convert` turns what a person wrote into a value, `build` turns values into a `Config`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from agent.addresses import SocketAddress
from agent.config.federation import parse_domains
from agent.config.settings import (
    VALUES,
    AccountName,
    Config,
    ConfigError,
    HttpsUrl,
    NodeName,
    ObjectName,
    SpiffeSocket,
)
from agent.identity.federated import FederatedDomain
from agent.identity.spiffe import TrustDomain


def convert(kind: Any, raw: object, base: Path, *, exact: bool) -> object:
    """`exact`: a number is a number; else (environment, flags) it comes as text."""
    if kind is Path:
        return base / _text(raw)
    if kind in _PARSERS:
        return _PARSERS[kind](_text(raw))
    if kind == tuple[FederatedDomain, ...]:
        return parse_domains(raw, base)
    if typing.get_origin(kind) is tuple:
        parts = raw if exact else [part.strip() for part in _text(raw).split(",")]
        if not isinstance(parts, list):
            raise ConfigError("expected a list")
        return tuple(ipaddress.ip_network(_text(part)) for part in parts)
    if typing.get_origin(kind) is Literal:
        if raw not in typing.get_args(kind):
            raise ConfigError(f"expected one of {', '.join(typing.get_args(kind))}")
        return raw
    try:
        return msgspec.convert(raw, kind, strict=exact)
    except msgspec.ValidationError as error:
        message = str(error).replace("`", "")
        raise ConfigError(message[0].lower() + message[1:]) from error


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ConfigError("expected text" + ("" if raw == "" else " (quote it)"))
    return raw


def _node_name(text: str) -> NodeName:
    # A Kubernetes node's name is a DNS subdomain (RFC 1123).
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", text):
        raise ConfigError("expected a node's name: lower case, digits, '.', '-'")
    return NodeName(text)


def _object_name(text: str) -> ObjectName:
    if not re.fullmatch(r"[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}", text):
        raise ConfigError("expected NAMESPACE/NAME")
    return ObjectName(text)


def _account_name(text: str) -> AccountName:
    try:
        return AccountName(_object_name(text))
    except ConfigError as error:
        raise ConfigError("expected a ServiceAccount: NAMESPACE/NAME") from error


def _https_url(text: str) -> HttpsUrl:
    url = urlsplit(text)
    if url.scheme != "https" or not url.hostname or url.port == 0:
        raise ConfigError("expected an URL: https://HOST:PORT")
    if url.username is not None or url.query or url.fragment:
        raise ConfigError("expected no user, query or fragment in the URL")
    return HttpsUrl(text.rstrip("/"))


def _spiffe_socket(text: str) -> SpiffeSocket:
    # SPIFFE Workload Endpoint section 4: an absolute path and nothing else.
    url = urlsplit(text)
    bare = f"{url.scheme}://{url.path}" == text and url.path.startswith("/")
    if url.scheme != "unix" or not bare:
        raise ConfigError("expected unix:///PATH")
    return SpiffeSocket(text)


_PARSERS: Final[dict[Any, Callable[[str], object]]] = {
    NodeName: _node_name,
    ObjectName: _object_name,
    AccountName: _account_name,
    TrustDomain: TrustDomain,
    HttpsUrl: _https_url,
    SpiffeSocket: _spiffe_socket,
    SocketAddress: SocketAddress.parse,
}


def _is_section(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) and kind not in VALUES


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """`Path | None` is (Path, True); `Path` is (Path, False)."""
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        inner = [arg for arg in typing.get_args(kind) if arg is not types.NoneType]
        return inner[0], True
    return kind, False


@dataclass(frozen=True, slots=True)
class Setting:
    """What one key takes, and its default; MISSING where that is worked out."""

    kind: Any
    optional: bool
    default: object


def _settings(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    for each in dataclasses.fields(kind):
        key, hint = f"{prefix}{each.name}", hints[each.name]
        if _is_section(hint):
            yield from _settings(hint, f"{key}.")
        elif each.name != "origins":
            inner, optional = _unwrap(hint)
            derived = each.default is dataclasses.MISSING
            yield key, Setting(inner, optional or derived, each.default)


def build(kind: type[Any], prefix: str, values: dict[str, Any], **more: Any) -> object:
    """An instance of a settings class from the values under its keys."""
    hints = typing.get_type_hints(kind)
    for each in dataclasses.fields(kind):
        key = f"{prefix}{each.name}"
        if _is_section(hints[each.name]):
            more[each.name] = build(hints[each.name], f"{key}.", values)
        elif key in values:
            more[each.name] = values[key]
    return kind(**more)


SCHEMA: Final = dict(_settings(Config))
SECTIONS: Final = frozenset(key.partition(".")[0] for key in SCHEMA if "." in key)
