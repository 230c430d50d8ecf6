"""
What is pinned where, under which numbers: the programs, their maps, their ports.

    PINS/maps/NAME             one pin a map
    PINS/programs/NAME         one pin a program
    PINS/links/NAME            one link a hook, on the cgroup
    PINS/links/netns-COOKIE-UID    one link a captured pod, on its network namespace
    PINS/links/here-COOKIE         and one before it, which tells which pod it is
    PINS/links/note_probe-CGROUP   one on the kubelet's cgroup, by its inode number
    PINS/links/gate4-CGROUP, gate6-CGROUP    on the cgroup of all pods, if asked for

    PINS-agent/                locked by the one agent that has the node

A whole set is built beside its place, in PINS-next, and renamed: where PINS exists it
is complete. bpffs takes no dot in a name (kernel/bpf/inode.c, bpf_lookup).
"""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from agent.errors import InputError

MAX_PIN_NAME_BYTES: Final = 255  # NAME_MAX

NETNS_PREFIX: Final = "netns-"
SK_LOOKUP: Final = "inbound"
MAPS: Final = (
    "enrolled",
    "passage",
    "peers",
    "originals",
    "clients",
    "listeners",
    "verdicts",
    "here",
    "noted",
    "barred",
    "traces",
    "unrecorded",
    "probes",
    "judged",
    "services",
    "choices",
    "about",
)


class ProgramType(IntEnum):
    """enum bpf_prog_type of uapi/linux/bpf.h, as far as we need it."""

    SOCK_OPS = 13
    SK_SKB = 14
    SK_MSG = 16
    CGROUP_SOCK_ADDR = 18
    SK_LOOKUP = 30


class AttachType(IntEnum):
    """enum bpf_attach_type of uapi/linux/bpf.h, as far as we need it."""

    CGROUP_SOCK_OPS = 3
    SK_MSG_VERDICT = 7
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30
    CGROUP_INET4_GETSOCKNAME = 31
    CGROUP_INET6_GETSOCKNAME = 32
    SK_LOOKUP = 36
    SK_SKB_VERDICT = 38


@dataclass(frozen=True, slots=True)
class Hook:
    """A function of bpf/redirect.c and where the kernel calls it."""

    name: str
    program: ProgramType
    attach: AttachType


# In the order of attachment: the names an application sees are in force before any
# connection is redirected.
CGROUP_HOOKS: Final = (
    Hook(
        "peer_name4", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETPEERNAME
    ),
    Hook(
        "peer_name6", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETPEERNAME
    ),
    Hook(
        "own_name4", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETSOCKNAME
    ),
    Hook(
        "own_name6", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_GETSOCKNAME
    ),
    Hook("note_flow", ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS),
    Hook("redirect4", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT),
    Hook("redirect6", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT),
)
NETNS_HOOK: Final = Hook(SK_LOOKUP, ProgramType.SK_LOOKUP, AttachType.SK_LOOKUP)
PROBE_HOOK: Final = Hook("note_probe", ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS)
GATE_HOOKS: Final = (
    Hook("gate4", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT),
    Hook("gate6", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT),
)
# Attached to the map `barred`, by the loader, for as long as the map lives.
BAR_HOOKS: Final = (
    Hook("bar_send", ProgramType.SK_MSG, AttachType.SK_MSG_VERDICT),
    Hook("bar_receive", ProgramType.SK_SKB, AttachType.SK_SKB_VERDICT),
)
HOOKS: Final = (*CGROUP_HOOKS, NETNS_HOOK, PROBE_HOOK, *GATE_HOOKS, *BAR_HOOKS)


@dataclass(frozen=True, slots=True)
class Ports:
    """The agent's ports in every pod's network namespace."""

    outbound: int = 15001
    inbound: int = 15006
    tunnel: int = 15008

    def defines(self) -> tuple[str, ...]:
        """As compiler flags."""
        return (
            f"-DOUTBOUND_PORT={self.outbound}",
            f"-DINBOUND_PORT={self.inbound}",
            f"-DTUNNEL_PORT={self.tunnel}",
        )


def fingerprint(
    sources: Mapping[str, bytes],
    ports: Ports,
    cgroup_inode: int,
    switches: Sequence[str] = (),
) -> bytes:
    """
    32 bytes that differ whenever the programs would, or where they are attached.

    `switches`: the fallbacks that they are compiled with (`features.switches`).

    Every part goes in with its length, so no two sets of sources read the same.
    """
    digest = hashlib.sha256()
    settings = " ".join(
        (*ports.defines(), f"cgroup={cgroup_inode}", *switches)
    ).encode()
    for name, content in (*sorted(sources.items()), ("settings", settings)):
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class NetnsPin:
    """Whose sk_lookup link a pin is; the name carries it past the agent's end."""

    cookie: int
    uid: str

    def __str__(self) -> str:
        """The file name. Raises: InputError if the uid is empty or too long."""
        # quote leaves dots alone, bpffs does not take them.
        quoted = urllib.parse.quote(self.uid, safe="").replace(".", "%2E")
        name = f"{NETNS_PREFIX}{self.cookie}-{quoted}"
        if not quoted or len(name) > MAX_PIN_NAME_BYTES:
            raise InputError(f"pod uid {self.uid[:80]!r}: empty or too long for a pin")
        return name

    @classmethod
    def parse(cls, name: str) -> NetnsPin | None:
        """The inverse; None for the name of another pin."""
        cookie, dash, quoted = name.removeprefix(NETNS_PREFIX).partition("-")
        if not name.startswith(NETNS_PREFIX) or not dash or not quoted:
            return None
        if not (cookie.isascii() and cookie.isdigit()):
            return None
        return cls(int(cookie), urllib.parse.unquote(quoted))


@dataclass(frozen=True, slots=True)
class PinLayout:
    """One set of pins. Raises: InputError for a folder name that bpffs refuses."""

    root: Path

    def __post_init__(self) -> None:
        if not self.root.is_absolute() or "." in self.root.name or not self.root.name:
            raise InputError(f"pins {self.root}: an absolute path, no dot in its name")

    @property
    def next(self) -> PinLayout:
        """Where a new set is built."""
        return PinLayout(self.root.with_name(f"{self.root.name}-next"))

    @property
    def old(self) -> PinLayout:
        """Where a replaced set goes on its way out."""
        return PinLayout(self.root.with_name(f"{self.root.name}-old"))

    @property
    def tenure(self) -> Path:
        """A folder that the agent in office has locked."""
        return self.root.with_name(f"{self.root.name}-agent")

    @property
    def maps(self) -> Path:
        return self.root / "maps"

    @property
    def programs(self) -> Path:
        return self.root / "programs"

    @property
    def links(self) -> Path:
        return self.root / "links"

    @property
    def folders(self) -> tuple[Path, ...]:
        """In the order of removal: nothing calls a program that is gone."""
        return (self.links, self.programs, self.maps)

    def netns_link(self, pin: NetnsPin) -> Path:
        return self.links / str(pin)

    def here_link(self, pin: NetnsPin) -> Path:
        """The link that runs before the pod's `netns_link`."""
        return self.links / f"here-{pin.cookie}"

    def past_link(self, pin: NetnsPin) -> Path:
        """A netns link on its way out: one that ran before the pod's `here_link`."""
        return self.links / f"past-{pin.cookie}"

    def cgroup_link(self, hook: Hook, inode: int) -> Path:
        """The link of a hook on a cgroup that is not the redirect's."""
        return self.links / f"{hook.name}-{inode}"

    def expected(self) -> tuple[Path, ...]:
        """Every pin of a complete set, pods' links aside."""
        return (
            *(self.maps / name for name in MAPS),
            *(self.programs / hook.name for hook in HOOKS),
            *(self.links / hook.name for hook in CGROUP_HOOKS),
        )
