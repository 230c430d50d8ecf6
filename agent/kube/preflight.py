"""
Before an agent starts: does the API server answer, by our clock, and let us?

Each finding says what was looked at, and where it is not well, what to do about it.
Source: SelfSubjectAccessReview (authorization.k8s.io/v1), which anybody may ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import msgspec

from agent.findings import Finding, judge_clock
from agent.kube.client import ApiFailed
from agent.kube.failure import FailureKind
from agent.kube.resources import Resource, Served
from agent.policy.kinds import POLICY_GROUPS

PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

ADVICE: Final = {
    FailureKind.AWAY: "check the server's address, and that this node reaches it",
    FailureKind.UNTRUSTED: "check the CA file, and the name in the URL",
    FailureKind.UNAUTHORIZED: "check the token file or client certificate",
}


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource, in all namespaces; a subresource as pods/status."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        suffix = f".{self.group}" if self.group else ""
        return f"{self.verb} {self.resource}{suffix}"

    @property
    def document(self) -> bytes:
        """The question whether we have it."""
        resource, _, below = self.resource.partition("/")
        attributes = {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": below,
        }
        return msgspec.json.encode(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
        )


WRITES: Final = (Right("patch", "", "pods/status"), Right("create", "", "events"))


def rights(resources: Iterable[Resource]) -> tuple[Right, ...]:
    """What the agent of a node needs; of a kind with older forms, the newest one."""
    reads = (
        Right(verb, served.group, served.plural)
        for served in _newest(resources)
        for verb in ("list", "watch")
    )
    conditions = (
        Right("patch", served.group, f"{served.plural}/status")
        for served in _newest(resources)
        if served.group in POLICY_GROUPS
    )
    return (*dict.fromkeys(reads), *WRITES, *conditions)


def _newest(resources: Iterable[Resource]) -> Iterator[Served]:
    return (resource.candidates[0] for resource in resources)


class _Status(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True):
    status: _Status


def judge_right(right: Right, answer: bytes) -> Finding:
    """What the API server says about one right."""
    subject = f"right to {right}"
    try:
        allowed = msgspec.json.decode(answer, type=_Review).status.allowed
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Finding(subject, f"not told: {error}", "check what answers at the URL")
    if allowed:
        return Finding(subject, "granted")
    advice = f"add it to the ClusterRole that is bound to us: {right}"
    return Finding(subject, "not granted", advice)


class Asked(Protocol):
    """What is asked of a client."""

    async def date(self, path: str) -> str | None:
        """The time that the server told with an answer. Raises: ApiFailed."""

    async def send(self, method: str, path: str, body: bytes, kind: str = ...) -> bytes:
        """Raises: ApiFailed."""


async def look(
    api: Asked, resources: Iterable[Resource], now: datetime
) -> list[Finding]:
    """All findings; without an answer at all, that one alone."""
    try:
        date = await api.date("/version")
    except ApiFailed as error:
        advice = ADVICE.get(error.failure.kind, "see what the API server says")
        return [Finding("API server", str(error), advice)]
    found = [Finding("API server", "answers"), judge_clock("the API server", date, now)]
    for right in rights(resources):
        try:
            answer = await api.send("POST", PATH, right.document)
        except ApiFailed as error:
            advice = "check that this user may create selfsubjectaccessreviews"
            found.append(Finding(f"right to {right}", str(error), advice))
        else:
            found.append(judge_right(right, answer))
    return found
