"""One log line for every certificate that the authority gave or refused."""

from __future__ import annotations

from agent.identity.signing import Issued, SigningRefused
from agent.identity.token import Caller, NodeCaller, WorkloadCaller
from agent.log import Logger


def record_issued(log: Logger, caller: Caller, issued: Issued) -> None:
    """Who got which certificate, until when."""
    svid = issued.svid
    log.info(
        "certificate issued",
        identity=str(svid.spiffe_id),
        serial=f"{svid.serial:x}",
        not_after=svid.not_after.isoformat(),
        fingerprint=svid.fingerprint,
        **_caller_facts(caller),
    )


def record_refused(log: Logger, caller: Caller, refused: SigningRefused) -> None:
    """Who asked for what and did not get it, and why."""
    log.warning(
        "certificate refused",
        identity=str(refused.identity) if refused.identity else None,
        reason=refused.reason.value,
        detail=str(refused),
        **_caller_facts(caller),
    )


def _caller_facts(caller: Caller) -> dict[str, str]:
    match caller:
        case NodeCaller(node, token_id):
            return {"node": node, "token_id": token_id}
        case WorkloadCaller(identity, token_id):
            return {"workload": str(identity), "token_id": token_id}
