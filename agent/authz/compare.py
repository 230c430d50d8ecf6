"""
What a proposal would change for the connections that were seen: `podlock authz diff`.

Pure. Both verdicts are made anew from objects, so that the difference is that of the
policies and of nothing that happened meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.addresses import parse_ip
from agent.authz.check import check
from agent.authz.judgement import Verdict
from agent.authz.party import Client
from agent.authz.seen import Flow, Tally
from agent.authz.servers import Server
from agent.authz.survey import Survey
from agent.identity.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class Difference:
    """A flow that is judged otherwise: `before` by what is in force, `after` not."""

    flow: Flow
    tally: Tally
    before: Verdict
    after: Verdict

    @property
    def refuses(self) -> bool | None:
        """
        Whether it starts to refuse, or stops; None where only audit comes or goes.
        """
        if self.before.allowed == self.after.allowed:
            return None
        return self.before.allowed


@dataclass(frozen=True, slots=True)
class Comparison:
    """`same`: flows that nothing changes for; `gone`: those of pods that are gone."""

    differences: tuple[Difference, ...]
    same: int
    gone: tuple[Flow, ...]


def compare(
    flows: Iterable[tuple[Flow, Tally]], now: Survey, proposed: Survey
) -> Comparison:
    """Judge every flow twice."""
    differences: list[Difference] = []
    gone: list[Flow] = []
    same = 0
    for flow, tally in flows:
        before, after = (judged(flow, tally, survey) for survey in (now, proposed))
        if before is None or after is None:
            gone.append(flow)
        elif (before.allowed, before.audit) == (after.allowed, after.audit):
            same += 1
        else:
            differences.append(Difference(flow, tally, before, after))
    return Comparison(tuple(differences), same, tuple(gone))


def judged(flow: Flow, tally: Tally, survey: Survey) -> Verdict | None:
    """
    What `survey` says to a flow, from each address that it was seen from: the worst.

    None where its pod is gone.
    """
    found = verdicts(flow, tally, survey)
    return min(found, key=_rank, default=None)


def verdicts(flow: Flow, tally: Tally, survey: Survey) -> list[Verdict]:
    """What `survey` says to a flow, by address; nothing where its pod is gone."""
    pod = survey.workloads.get(flow.destination)
    if pod is None:
        return []
    identity = SpiffeId.parse(flow.client) if flow.meshed else None
    addresses = tuple(parse_ip(ip) for ip in tally.sources)
    client = Client(identity, addresses)
    answers = check(client, Server(pod, flow.port), survey)
    return [answer.verdict for answer in answers]


def _rank(verdict: Verdict) -> tuple[bool, bool]:
    return verdict.allowed, not verdict.audit
