"""
What a policy object's status says of us: the condition `podlock.io/Accepted`. Pure.

Every agent reads all policies and finds the same wrong with them, so any agent may
write it, and whoever comes second finds it written. Only what is wrong is told, and
that it is no more: an object that nobody ever complained of is left alone. A policy
without effect is accepted, with a message.
Source: Kubernetes API conventions, "Typical status properties".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from agent.kube.resources import Served
from agent.kube.watch import Item
from agent.policy.problem import Problem

CONDITION: Final = "podlock.io/Accepted"
ACCEPTED: Final = "Accepted"
NOT_WHOLE: Final = "NotWhollyEnforced"
UNREADABLE: Final = "Unreadable"
WITHOUT_EFFECT: Final = "WithoutEffect"
MAX_MESSAGE: Final = 2048  # Kubernetes takes 32 KiB
# What makes two conditions say the same; a generation that is older says less.
_SAID: Final = ("status", "reason", "message", "observedGeneration")


@dataclass(frozen=True, slots=True)
class Standing:
    """A policy object as the API server has it; a condition is written over it."""

    path: str
    revision: str
    generation: int
    conditions: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A policy object, by the title that problems have, and why it cannot be read."""

    title: str
    standing: Standing
    faults: tuple[Problem, ...] = ()


class _Meta(msgspec.Struct, frozen=True):
    generation: int = 0


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta
    status: Any = None


def standing_of(item: Item, served: Served) -> Standing | None:
    """None for an object that is not even an object."""
    try:
        found = msgspec.json.decode(item.raw, type=_Object)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    status = found.status if isinstance(found.status, dict) else {}
    conditions = status.get("conditions")
    known = conditions if isinstance(conditions, list) else []
    home = f"{served.home}/namespaces/{item.key.namespace}"
    return Standing(
        f"{home}/{served.plural}/{item.key.name}",
        str(item.version),
        found.metadata.generation,
        tuple(each for each in known if isinstance(each, dict)),
    )


def correction(
    found: Finding,
    problems: Sequence[Problem],
    now: datetime,
    warnings: Sequence[Problem] = (),
) -> bytes | None:
    """
    A merge patch of the status, or None where it is right.

    `problems` are those of an object that can be read. Fails over another revision.
    """
    standing = found.standing
    ours = next((c for c in standing.conditions if c.get("type") == CONDITION), None)
    told = found.faults or problems
    if not told and not warnings:
        silent = ours is None or (ours.get("status") == "True" and not _warns(ours))
        if silent:
            return None
    wanted = _condition(found, told, now, warnings)
    if ours is not None and all(ours.get(name) == wanted[name] for name in _SAID):
        return None
    if ours is not None and ours.get("status") == wanted["status"]:
        wanted["lastTransitionTime"] = ours.get("lastTransitionTime")
    others = [c for c in standing.conditions if c.get("type") != CONDITION]
    return msgspec.json.encode(
        {
            "metadata": {"resourceVersion": standing.revision},
            "status": {"conditions": [*others, wanted]},
        }
    )


def _warns(condition: Mapping[str, Any]) -> bool:
    return bool(condition.get("message"))


def _condition(
    found: Finding,
    told: Sequence[Problem],
    now: datetime,
    warnings: Sequence[Problem],
) -> dict[str, object]:
    reason = NOT_WHOLE if told else WITHOUT_EFFECT if warnings else ACCEPTED
    return {
        "type": CONDITION,
        "status": "False" if told else "True",
        "reason": UNREADABLE if found.faults else reason,
        "message": _message([*told, *warnings]),
        "observedGeneration": found.standing.generation,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _message(told: Sequence[Problem]) -> str:
    texts = [f"{each.field}: {each.message}".removeprefix(": ") for each in told]
    text = "; ".join(texts)
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."
