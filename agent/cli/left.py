"""No agent answers: what the one that is gone has left in the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.options import read

if TYPE_CHECKING:
    from agent.config import Config
    from agent.status.documents import Name


def agent_at(
    socket: Path | None, file: Path | None, settings: tuple[str, ...]
) -> tuple[Path, Config | None]:
    """The status socket, and the configuration where that named it."""
    if socket is not None:
        return socket, None
    config = read(file, settings)
    return config.status.socket, config


def fetch(
    socket: Path, name: Name, filters: Mapping[str, list[str]], config: Config | None
) -> dict[str, Any]:
    """
    A document of the agent behind a socket.

    Raises: NoAnswer, which says how many pods stay redirected, where `config` names
    the pins of an agent that is gone.
    """
    from agent.status import client

    try:
        return client.fetch(socket, name, filters)
    except client.NoAnswer as error:
        left = _left(config.redirect.pins) if config else None
        if left is None:
            raise
        raise client.NoAnswer(f"{error}\n{left}") from error


def _left(pins: Path) -> str | None:
    """In a sentence; None where nothing is pinned, or an agent has the node lock."""
    from agent.errors import PodlockError
    from agent.redirect import pinset, tenure
    from agent.redirect.layout import PinLayout

    try:
        layout = PinLayout(pins)
        if tenure.is_taken(pins) or not pinset.exists(layout):
            return None
        return pinset.left_behind(sum(1 for _ in pinset.netns_pins(layout)))
    except (PodlockError, OSError):
        return None
