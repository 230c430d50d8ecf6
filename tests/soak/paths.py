"""
Which pods talk to which, and by which way: data.

A path that needs a setting which this agent does not have is listed as not run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.config.schema import SCHEMA

Setting = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Path:
    """
    One client pod, one server pod and port, and the way between them.

    `revocable`: policy takes its permit back and gives it again while it runs. `needs`
    is a setting of the agent (the last part of its key) and the value it must have.
    """

    name: str
    client: str
    server: str
    port: int
    guarded: bool = False
    """Whether a Server and an AuthorizationPolicy guard the port."""
    revocable: bool = False
    needs: Setting | None = None
    plaintext: bool = False
    """Whether one of the pods is outside of the mesh."""


DIRECT: Final[Setting] = ("same_node", "direct")

# Pods by node. The second node speaks directly inside itself, where it can.
MESHED: Final = {"n1": ("web", "batch", "near"), "n2": ("api", "buyer", "till")}
UNMESHED: Final = {"n1": ("outsider",), "n2": ("outside",)}
DIRECT_NODE: Final = "n2"

PATHS: Final = (
    Path("tunnel, cross node", "web", "api", 9100, guarded=True),
    Path("tunnel, revoked", "batch", "api", 9100, guarded=True, revocable=True),
    Path("tunnel, same node", "web", "near", 9101),
    Path("plaintext", "outsider", "api", 9102, plaintext=True),
    Path("passthrough", "web", "outside", 9103, plaintext=True),
    Path("direct", "buyer", "api", 9104, guarded=True, needs=DIRECT),
    Path(
        "direct, revoked",
        "till",
        "api",
        9104,
        guarded=True,
        revocable=True,
        needs=DIRECT,
    ),
)


def setting_key(setting: Setting, known: Iterable[str] = SCHEMA) -> str | None:
    """The whole key of a setting of this agent: `same_node` or `proxy.same_node`."""
    name, _value = setting
    found = [key for key in known if key.rpartition(".")[2] == name]
    return found[0] if found else None


def runnable(path: Path, known: Iterable[str] = SCHEMA) -> bool:
    """Whether this agent has what the path needs."""
    return path.needs is None or setting_key(path.needs, known) is not None
