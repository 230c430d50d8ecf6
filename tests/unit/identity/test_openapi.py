"""deploy/identity-openapi.yaml says what the identity service does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import trio
import yaml
from trio.testing import MockClock

from agent.identity import endpoints
from agent.identity.csr import RULES
from agent.identity.endpoints import IdentityService, Limits
from agent.identity.ledger import LedgerUnavailable
from agent.identity.limits import Rate
from agent.identity.overview import StateView
from agent.identity.report import ReportDocument, TrustReport
from agent.identity.reviewing import CallersUnknown
from agent.identity.signing import SigningReason
from agent.identity.token import TokenFault
from agent.identity.trust import Trust, TrustDocument
from agent.identity.wire import (
    AcknowledgedAnswer,
    ErrorAnswer,
    HealthAnswer,
    SignAnswer,
    SignBody,
)
from tests.unit.identity.asking import (
    ADMIN,
    AUTHORITY,
    BEARER,
    ask,
    body,
    encoded,
    service,
)
from tests.unit.identity.parts import BATCH, MemoryAudit

FILE: Final = Path(__file__).parents[3] / "deploy" / "identity-openapi.yaml"
DOCUMENT: Final = yaml.safe_load(FILE.read_text())
TYPES: Final = [
    SignBody,
    SignAnswer,
    TrustDocument,
    ReportDocument,
    AcknowledgedAnswer,
    StateView,
    HealthAnswer,
    ErrorAnswer,
]
Operation = tuple[str, str]
SIGN: Final = ("POST", "/v1/sign")
ACKNOWLEDGE: Final = ("POST", "/v1/acknowledgements")
STATE: Final = ("GET", "/v1/state")
STREAM: Final = ("GET", "/v1/bundle/stream")
BUNDLE: Final = ("GET", "/v1/bundle")
SPIFFE: Final = ("GET", "/v1/bundle/spiffe")
HEALTH: Final = ("GET", "/healthz")


def operations() -> dict[Operation, dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


def reasons(operation: Operation, status: int) -> set[str]:
    return set(operations()[operation]["x-reasons"][str(status)])


def test_the_operations_are_the_routes() -> None:
    """No path is undocumented, and none is invented."""
    routes = {(method, path) for path, (method, _) in service()._routes.items()}
    assert routes | {endpoints.STREAM} == operations().keys()


def test_the_schemas_are_those_of_the_code() -> None:
    """Every field, type, pattern and limit, as it is encoded and decoded."""
    _, schemas = msgspec.json.schema_components(
        TYPES, ref_template="#/components/schemas/{name}"
    )
    assert DOCUMENT["components"]["schemas"] == schemas


def test_tokens_are_asked_for_where_they_are_documented() -> None:
    """An operation without `security: []` answers 401 and no other does."""
    secured = {key for key, each in operations().items() if "security" not in each}
    assert secured == {SIGN, ACKNOWLEDGE, STATE}
    assert secured == {
        key for key, op in operations().items() if "401" in op["responses"]
    }


def test_the_reasons_are_those_of_the_code() -> None:
    """Each kind of refusal, member by member."""
    for operation in (SIGN, ACKNOWLEDGE, STATE):
        assert reasons(operation, 401) == {fault.value for fault in TokenFault}
    assert reasons(SIGN, 403) == {reason.value for reason in SigningReason}
    csr = {f"csr_{rule.name.lower()}" for rule in RULES}
    assert reasons(SIGN, 400) == csr | {"malformed_request"}


class BrokenLedger:
    """Its disk is full."""

    records: dict[str, Any] = {}  # noqa: RUF012 - nobody adds to it

    async def heard(self, *_: object) -> None:
        raise LedgerUnavailable("no room")

    issued = heard


@dataclass(frozen=True)
class BrokenReviewer:
    error: Exception

    async def review(self, token: str) -> Any:
        del token
        raise self.error

    async def spend(self, caller: object) -> None:
        raise NotImplementedError


def expired() -> IdentityService:
    return service(away=timedelta(days=366))


def without_room() -> IdentityService:
    app = service()
    app.issuance.ledger = BrokenLedger()
    return app


def full_disk() -> IdentityService:
    audit = MemoryAudit()
    audit.full = True
    return service(audit=audit)


def spent() -> IdentityService:
    app = service(limits=Limits(Rate(per_second=0.001, burst=1)))
    app._rates.take("n1", trio.current_time())
    app._rates.take("admin", trio.current_time())
    return app


def tainted() -> IdentityService:
    app = service()
    trust = app.issuance.trust
    names = frozenset(anchor.fingerprint for anchor in trust.bundle.anchors)
    app.issuance.trust = replace(trust, tainted=names)
    return app


def busy() -> IdentityService:
    return service(limits=Limits(concurrent=0))


def broken() -> IdentityService:
    app = service()
    app._reviewer = BrokenReviewer(RuntimeError("nobody foresaw this"))
    return app


def unsure() -> IdentityService:
    app = service()
    app._reviewer = BrokenReviewer(CallersUnknown("the API server is away"))
    return app


async def dripping() -> AsyncIterator[bytes]:
    while True:
        await trio.sleep(3)
        yield b" "


GOOD: Final = encoded(body())
REPORT: Final = TrustReport("n1", 1).format()
BIG: Final = b" " * (5 * 1024 * 1024)
Make = Callable[[], IdentityService]

SCENES: Final[list[tuple[Operation, int, str | None, Make, dict[str, Any]]]] = [
    (SIGN, 200, None, service, {"content": GOOD}),
    (SIGN, 400, "malformed_request", service, {"content": b"{"}),
    (SIGN, 400, "csr_malformed", service, {"content": b'{"csr": ""}'}),
    (SIGN, 401, "token_missing", service, {"headers": {}}),
    (SIGN, 403, "identity_not_on_node", service, {"content": encoded(body(BATCH))}),
    (SIGN, 408, "too_slow", service, {"content": dripping}),
    (SIGN, 413, "too_large", service, {"content": BIG}),
    (SIGN, 429, "too_many_requests", spent, {"content": GOOD}),
    (SIGN, 500, "internal", broken, {"content": GOOD}),
    (SIGN, 503, "overloaded", busy, {"content": GOOD}),
    (SIGN, 503, "authority_unusable", expired, {"content": GOOD}),
    (SIGN, 503, "audit_unavailable", full_disk, {"content": GOOD}),
    (SIGN, 503, "state_unavailable", without_room, {"content": GOOD}),
    (SIGN, 503, "callers_unknown", unsure, {"content": GOOD}),
    (ACKNOWLEDGE, 200, None, service, {"content": REPORT}),
    (ACKNOWLEDGE, 400, "malformed_report", service, {"content": b"{}"}),
    (ACKNOWLEDGE, 401, "token_missing", service, {"headers": {}}),
    (
        ACKNOWLEDGE,
        403,
        "not_the_callers_identity",
        service,
        {"content": TrustReport("n2", 1).format()},
    ),
    (ACKNOWLEDGE, 408, "too_slow", service, {"content": dripping}),
    (ACKNOWLEDGE, 413, "too_large", service, {"content": BIG}),
    (ACKNOWLEDGE, 429, "too_many_requests", spent, {"content": REPORT}),
    (ACKNOWLEDGE, 500, "internal", broken, {"content": REPORT}),
    (ACKNOWLEDGE, 503, "overloaded", busy, {"content": REPORT}),
    (ACKNOWLEDGE, 503, "state_unavailable", without_room, {"content": REPORT}),
    (ACKNOWLEDGE, 503, "callers_unknown", unsure, {"content": REPORT}),
    (STATE, 200, None, service, {"headers": ADMIN}),
    (STATE, 401, "token_missing", service, {"headers": {}}),
    (STATE, 403, "not_an_admin", service, {}),
    (STATE, 429, "too_many_requests", spent, {"headers": ADMIN}),
    (STATE, 500, "internal", broken, {"headers": ADMIN}),
    (STATE, 503, "callers_unknown", unsure, {"headers": ADMIN}),
    (BUNDLE, 200, None, service, {"headers": {}}),
    (SPIFFE, 503, "no_good_anchor", tainted, {"headers": {}}),
    (HEALTH, 200, None, service, {"headers": {}}),
    (HEALTH, 503, "authority_unusable", expired, {"headers": {}}),
]
ANSWERS: Final[dict[Operation, type[msgspec.Struct]]] = {
    SIGN: SignAnswer,
    ACKNOWLEDGE: AcknowledgedAnswer,
    STATE: StateView,
    BUNDLE: TrustDocument,
    HEALTH: HealthAnswer,
}


@pytest.mark.parametrize(("operation", "status", "why", "make", "how"), SCENES)
async def test_answers_as_documented(
    autojump_clock: MockClock,
    operation: Operation,
    status: int,
    why: str | None,
    make: Make,
    how: dict[str, Any],
) -> None:
    """Status, body and headers of a real answer."""
    content = how.get("content")
    content = content() if callable(content) else content
    headers = how.get("headers", BEARER)
    response = await ask(*operation, make(), headers=headers, content=content)
    assert response.status_code == status
    told = operations()[operation]["responses"][str(status)]
    if why is None:
        schema = told["content"]["application/json"]["schema"]["$ref"]
        assert schema.rpartition("/")[2] == ANSWERS[operation].__name__
        msgspec.json.decode(response.content, type=ANSWERS[operation], strict=True)
        return
    error = msgspec.json.decode(response.content, type=ErrorAnswer).error
    assert error.reason == why
    assert why in reasons(operation, status)
    kind = told["$ref"].rpartition("/")[2]
    for header in DOCUMENT["components"]["responses"][kind].get("headers", ()):
        # 503 for what only a person can put right does not say when.
        assert header in response.headers or (status, why != "overloaded") == (
            503,
            True,
        )


def test_every_documented_status_is_played() -> None:
    """Each operation's every answer, but the stream's and the SPIFFE document."""
    played = {(operation, str(status)) for operation, status, *_ in SCENES}
    documented = {
        (key, status)
        for key, each in operations().items()
        for status in each["responses"]
    }
    assert documented - played == {
        (STREAM, "200"),
        (STREAM, "503"),
        (SPIFFE, "200"),
    }


async def test_the_spiffe_document_has_the_members_that_it_should() -> None:
    """The schema is the standard's and not one of our types."""
    content = operations()[SPIFFE]["responses"]["200"]["content"]
    schema = content["application/json"]["schema"]
    document = (await ask(*SPIFFE, headers={})).json()
    assert document.keys() == schema["properties"].keys() == set(schema["required"])
    (key,) = document["keys"]
    wanted = schema["properties"]["keys"]["items"]
    assert key.keys() >= set(wanted["required"])
    assert key["kty"] in wanted["properties"]["kty"]["enum"]


def test_the_stream_speaks_trust_documents() -> None:
    """Its line is what GET /v1/bundle answers."""
    content = operations()[STREAM]["responses"]["200"]["content"]
    assert content.keys() == {"application/x-ndjson"}
    line = Trust(1, AUTHORITY.bundle).format()
    assert msgspec.json.decode(line, type=TrustDocument).version == 1
