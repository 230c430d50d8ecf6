"""
How to reach an API server: from a kubeconfig, or from what the kubelet mounts. Pure.

Source: the Config kind (client-go's `clientcmd/api/v1`), and "Accessing the API from a
pod". What a kubeconfig may ask for and this agent does not do (a plugin, a password, no
verification) is an error that names the field: to ignore it would be to log in as
somebody else, or to trust anybody.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml

from agent.errors import InputError

MAX_KUBECONFIG_BYTES: Final = 1 << 20

T = TypeVar("T", bound="_Named")

Source = bytes | Path
"""PEM or a token: as it is, or in a file that may change."""


class InvalidAccess(InputError):
    """A kubeconfig, certificate, key or token that cannot be used."""


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """
    Where the API server is, whom to trust, who we are.

    `ca` None: the system's authorities. `server_name`: the name in its certificate,
    where that is not the URL's host.
    """

    server: str
    ca: Source | None = None
    token: Source | None = None
    certificate: Source | None = None
    key: Source | None = None
    server_name: str | None = None

    def __repr__(self) -> str:
        return f"<Access to {self.server}>"

    def __post_init__(self) -> None:
        url = urlsplit(self.server)
        if url.scheme != "https" or not url.hostname:
            raise InvalidAccess(f"server {self.server!r}: expected https://HOST:PORT")
        if (self.certificate is None) != (self.key is None):
            raise InvalidAccess("a client certificate needs its key, and a key it")


def in_cluster(server: str, directory: Path) -> Access:
    """As a pod: `directory` is where its ServiceAccount is mounted."""
    return Access(server, ca=directory / "ca.crt", token=directory / "token")


class _Named(msgspec.Struct, frozen=True):
    name: str


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    tls_server_name: str | None = None
    insecure_skip_tls_verify: bool = False
    proxy_url: str | None = None


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    username: str | None = None
    exec: Any = None
    auth_provider: Any = None
    act_as: str | None = msgspec.field(default=None, name="as")


class _Context(msgspec.Struct, frozen=True):
    cluster: str
    user: str


class _NamedCluster(_Named, frozen=True):
    cluster: _Cluster


class _NamedUser(_Named, frozen=True):
    user: _User


class _NamedContext(_Named, frozen=True):
    context: _Context


class _Kubeconfig(msgspec.Struct, frozen=True, rename="kebab"):
    current_context: str
    clusters: tuple[_NamedCluster, ...]
    contexts: tuple[_NamedContext, ...]
    users: tuple[_NamedUser, ...] = ()


def parse_kubeconfig(data: bytes, base: Path) -> Access:
    """
    The access of the current context; files in it are relative to `base`.

    Raises: InvalidAccess, with the field.
    """
    if len(data) > MAX_KUBECONFIG_BYTES:
        raise InvalidAccess(f"more than {MAX_KUBECONFIG_BYTES} bytes")
    try:
        config = msgspec.convert(yaml.safe_load(data), _Kubeconfig)
    except yaml.MarkedYAMLError as error:
        # In its own words it shows the line, which may be the token's.
        at = error.problem_mark or error.context_mark
        where = f"line {at.line + 1}: " if at else ""
        raise InvalidAccess(f"no kubeconfig: {where}{error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidAccess(f"no kubeconfig: {error}") from error
    context = _named(config.contexts, config.current_context, "contexts").context
    cluster = _named(config.clusters, context.cluster, "clusters").cluster
    user = _named(config.users, context.user, "users").user
    _refuse_unsupported(cluster, user)
    return Access(
        server=cluster.server.rstrip("/"),
        ca=_source(
            cluster.certificate_authority_data,
            cluster.certificate_authority,
            base,
            "certificate-authority-data",
        ),
        token=_token(user, base),
        certificate=_source(
            user.client_certificate_data,
            user.client_certificate,
            base,
            "client-certificate-data",
        ),
        key=_source(user.client_key_data, user.client_key, base, "client-key-data"),
        server_name=cluster.tls_server_name,
    )


def _named(items: Iterable[T], name: str, field: str) -> T:
    found = next((item for item in items if item.name == name), None)
    if found is None:
        raise InvalidAccess(f"{field}: none is named {name!r}")
    return found


def _refuse_unsupported(cluster: _Cluster, user: _User) -> None:
    unsupported = {
        "clusters.cluster.insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "clusters.cluster.proxy-url": cluster.proxy_url,
        "users.user.exec": user.exec,
        "users.user.auth-provider": user.auth_provider,
        "users.user.username": user.username,
        "users.user.as": user.act_as,
    }
    for field, value in unsupported.items():
        if value:
            text = "is not supported; expected a token or a client certificate"
            raise InvalidAccess(f"{field}: {text}, and a server that proves itself")


def _source(
    data: str | None, path: str | None, base: Path, field: str
) -> Source | None:
    """Inline data wins over a file, as in client-go."""
    if data:
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise InvalidAccess(f"{field}: not base64") from error
    return base / path if path else None


def _token(user: _User, base: Path) -> Source | None:
    # As client-go: the file is the current one, `token` what it was when written.
    if user.token_file:
        return base / user.token_file
    return user.token.encode() if user.token else None
