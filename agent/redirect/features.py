"""
What the redirect needs of a kernel, and what follows from what was tried.

A kernel is never judged by its version: distributions carry features back, and
builders leave some out. `tried.py` tries each feature; here is what that means. A
feature is native, has a fallback, or is refused: then nothing is attached at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


@dataclass(frozen=True, slots=True)
class Feature:
    """
    `since`: the release of kernel.org that brought it. `without`: what is done where
    it is missing; "" where nothing can be done.
    """

    name: str
    need: str
    since: str
    without: str = ""


LOAD: Final = Feature("bpf", "load a program by bpf(2)", "4.17")
CONNECT: Final = Feature(
    "connect hooks", "turn a pod's connect() to the agent, by namespace cookie", "5.7"
)
NAMES: Final = Feature(
    "name hooks", "show applications the addresses they meant", "5.8"
)
STORAGE: Final = Feature(
    "socket storage", "remember in a socket where it meant to go", "5.8"
)
SOCK_OPS: Final = Feature(
    "sock_ops", "tell the agent what a connection meant, by namespace cookie", "5.15"
)
LOOKUP: Final = Feature(
    "sk_lookup", "give the agent what comes to a pod from outside", "5.9"
)
INTERFACE: Final = Feature(
    "sk_lookup interface",
    "see what stays within a pod by its interface, lo",
    "5.17",
    "seen by its addresses, both loopback; a connect within a pod from another"
    " address to loopback is refused",
)
CGROUP_LINKS: Final = Feature("cgroup links", "attach to the cgroup by links", "5.7")
NETNS_LINKS: Final = Feature(
    "netns links", "attach to a pod's namespace by links", "5.9"
)
COOKIE: Final = Feature("namespace cookie", "tell pods apart (SO_NETNS_COOKIE)", "5.14")
TAKE: Final = Feature("map take", "read and delete an entry in one step", "5.14")
DESTROY: Final = Feature(
    "socket destroy",
    "end direct connections that lost their permit (CONFIG_INET_DIAG_DESTROY)",
    "4.9",
    "same_node: tunnel, whatever is set",
)

ALL: Final = (
    *(LOAD, CONNECT, NAMES, STORAGE, SOCK_OPS, LOOKUP, INTERFACE),
    *(CGROUP_LINKS, NETNS_LINKS, COOKIE, TAKE, DESTROY),
)
# What every other program needs: without it nothing else says anything new.
_FIRST: Final = LOAD


class Level(StrEnum):
    NATIVE = "native"
    FALLBACK = "fallback"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A feature on this kernel; `reason` is what the kernel said, "" if all is well."""

    feature: Feature
    level: Level
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.feature.name}: {self.level}, {self.message}"

    @property
    def message(self) -> str:
        """In a sentence, with what is done about it."""
        if self.level is Level.NATIVE:
            return self.feature.need
        missing = f"{self.feature.need}: {self.reason} (Linux {self.feature.since})"
        if self.level is Level.FALLBACK:
            return f"{missing}; instead: {self.feature.without}"
        return missing


def judge(tried: Mapping[Feature, str | None]) -> tuple[Outcome, ...]:
    """
    `tried`: for each feature None if it works, or what the kernel said.

    Where not even a program can be loaded that is the only outcome.
    """
    if tried.get(_FIRST) is not None:
        return (_judge_one(_FIRST, tried[_FIRST]),)
    return tuple(
        _judge_one(feature, tried[feature]) for feature in ALL if feature in tried
    )


def _judge_one(feature: Feature, said: str | None) -> Outcome:
    if said is None:
        return Outcome(feature, Level.NATIVE)
    level = Level.FALLBACK if feature.without else Level.REFUSED
    return Outcome(feature, level, said)


def refusal(outcomes: Iterable[Outcome]) -> str | None:
    """Why this kernel cannot carry the redirect; None if it can."""
    missing = [each for each in outcomes if each.level is Level.REFUSED]
    if not missing:
        return None
    return "; ".join(f"{each.feature.name}: {each.message}" for each in missing)


def switches(outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """What the programs are compiled with, so that they take the fallback's way."""
    lacks_interface = any(
        each.feature is INTERFACE and each.level is Level.FALLBACK for each in outcomes
    )
    return (NO_INGRESS_IFINDEX,) if lacks_interface else ()


NO_INGRESS_IFINDEX: Final = "NO_INGRESS_IFINDEX"
SWITCHES: Final = (NO_INGRESS_IFINDEX,)
