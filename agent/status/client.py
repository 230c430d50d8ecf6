"""
Asking an agent over its status socket.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from agent.errors import PodlockError
from agent.status.documents import Name
from agent.status.owner import owner_of

TIMEOUT_SECONDS: Final = 10.0


class NoAnswer(PodlockError):
    """No agent, or none that could answer."""


def fetch(
    path: Path,
    name: Name,
    filters: Mapping[str, list[str]] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """
    One document from the agent behind the socket at `path`.

    Raises: NoAnswer, with the agent's own words where it gave some.
    """
    _knock(path)
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, timeout=timeout_seconds) as client:
        try:
            answer = client.get(f"http://localhost/v1/{name}", params=filters)
            document = answer.json()
        except httpx.TimeoutException as error:
            text = f"{path}: no answer within {timeout_seconds:g} seconds"
            owner = owner_of(path)
            raise NoAnswer(f"{text}; {owner}" if owner else text) from error
        except (httpx.HTTPError, ValueError) as error:
            raise NoAnswer(f"{path}: not a Podlock agent: {error}") from error
    if not isinstance(document, dict):
        raise NoAnswer(f"{path}: not a Podlock agent: expected a JSON object")
    if answer.status_code != httpx.codes.OK:
        raise NoAnswer(str(document.get("error", f"HTTP {answer.status_code}")))
    return document


def _knock(path: Path) -> None:
    """Raises: NoAnswer, with what a person can do about it."""
    # httpx alone would say "No such file" at best, and leaks its socket besides.
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(path))
    except PermissionError as error:
        raise NoAnswer(f"{path}: permission denied: only its owner may ask") from error
    except OSError as error:
        raise NoAnswer(
            f"no agent answers at {path} ({error.strerror or error}): "
            "is `podlock run` running?"
        ) from error
