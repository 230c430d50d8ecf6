"""
What we show an API server and know it by, read from files into an SSL context.

A key never touches a disk on its way: `ssl` gets it from an anonymous file in memory.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from agent.kube.access import Access, InvalidAccess, Source


def read_files(access: Access) -> Mapping[str, bytes]:
    """What the access refers to, by name. Raises: InvalidAccess."""
    sources: dict[str, Source | None] = {
        "ca": access.ca,
        "certificate": access.certificate,
        "key": access.key,
    }
    found: dict[str, bytes] = {}
    for name, source in sources.items():
        if isinstance(source, Path):
            try:
                found[name] = source.read_bytes()
            except OSError as error:
                text = f"{name} {source}: {error.strerror}"
                raise InvalidAccess(text) from error
        elif source is not None:
            found[name] = source
    return found


def context_of(files: Mapping[str, bytes]) -> ssl.SSLContext:
    """Raises: InvalidAccess."""
    context = ssl.create_default_context() if "ca" not in files else _bare_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if "ca" in files:
            context.load_verify_locations(cadata=files["ca"].decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise InvalidAccess(f"ca: no certificates in PEM: {error}") from error
    if "certificate" in files:
        _load_client_certificate(context, files["certificate"] + b"\n" + files["key"])
    return context


def _bare_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name


def _load_client_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    # `ssl` reads keys from a path only; this one is in memory alone.
    descriptor = os.memfd_create("podlock-client", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as memory:
        memory.write(pem)
        memory.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        except (ssl.SSLError, OSError) as error:
            raise InvalidAccess(f"client certificate and key: {error}") from error
