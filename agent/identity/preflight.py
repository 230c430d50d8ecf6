"""Before an agent starts: is there what it needs for identities?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import trio

from agent.findings import Finding, judge_clock
from agent.identity.client import IdentityClient
from agent.identity.federated import FederatedDomain
from agent.identity.federation import Federation
from agent.identity.source import IdentityUnavailable

SOCKET_SECONDS: Final = 3.0


async def look_at_service(client: IdentityClient, now: datetime) -> list[Finding]:
    """Whether it answers, by a certificate that verifies, and our clocks agree."""
    subject = "identity service"
    try:
        date = await client.date()
    except IdentityUnavailable as error:
        advice = (
            "check identity.service, that this node reaches it, and that "
            "identity.anchors and identity.token are its own"
        )
        return [Finding(subject, str(error), advice)]
    answers = Finding(subject, "answers, and its certificate verifies")
    return [answers, judge_clock("the identity service", date, now)]


async def look_at_agent(address: str) -> Finding:
    """Whether a process listens at a SPIFFE agent's socket, `unix:///path`."""
    subject, path = "SPIFFE agent", address.removeprefix("unix://")
    try:
        with trio.fail_after(SOCKET_SECONDS):
            stream = await trio.open_unix_socket(path)
            await stream.aclose()
    except (OSError, RuntimeError, trio.TooSlowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = "check identity.workload_api, and that the SPIFFE agent runs"
        return Finding(subject, f"{path}: {reason}", advice)
    return Finding(subject, f"listens at {path}")


async def look_at_domains(domains: tuple[FederatedDomain, ...]) -> list[Finding]:
    """Whether each federated domain's bundle can be read now."""
    federation = Federation(domains, lambda _bundles: None)
    await federation.look()
    return [
        Finding(f"bundle of {each.domain.trust_domain}", "is readable")
        if each.problem is None
        else Finding(
            f"bundle of {each.domain.trust_domain}",
            each.problem,
            "check federation.domains, and that this node reaches it",
        )
        for each in federation.report()
    ]


def look_at_lists(path: Path, faults: dict[str, str]) -> list[Finding]:
    """The files of revocation lists; of those that cannot be used, why."""
    if not faults:
        return [Finding("revocation lists", f"{path}: every file can be used")]
    advice = "replace the file: what it should name is not refused"
    return [
        Finding("revocation list", f"{file}: {why}", advice)
        for file, why in faults.items()
    ]
