"""Asks an identity service that has no network around it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx

from agent.identity.audit import AuditLog
from agent.identity.csr import make_csr
from agent.identity.endpoints import IdentityService, Limits
from agent.identity.key import PrivateKey
from agent.identity.overview import StateView, view
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.reviewing import JoinTokens
from agent.identity.spiffe import SpiffeId
from agent.identity.state import AuthorityState, Root
from agent.identity.token import AdminCaller, NodeCaller, TokenKey, issue_token
from tests.unit.identity.parts import API, NOW, TD, at_work, make_authority

AUTHORITY = make_authority()
KEY = TokenKey(b"k" * 32)
HOUR = timedelta(hours=1)
TOKEN = issue_token(KEY, TD, NodeCaller("n1", "id-1"), now=NOW, ttl=HOUR)
BEARER = {b"authorization": b"Bearer " + TOKEN.encode()}


ADMIN_TOKEN = issue_token(KEY, TD, AdminCaller("id-2"), now=NOW, ttl=HOUR)
ADMIN = {b"authorization": b"Bearer " + ADMIN_TOKEN.encode()}


def service(
    away: timedelta = timedelta(0),
    *,
    limits: Limits | None = None,
    audit: AuditLog | None = None,
) -> IdentityService:
    """The application, at NOW or some time away from it."""
    callers = JoinTokens(KEY, TD, clock=lambda: NOW)
    issuance = at_work(AUTHORITY, ("n1", API), clock=lambda: NOW + away, audit=audit)
    root = Root(AUTHORITY.bundle.anchors[0], 1)
    state = AuthorityState(TD, 1, (root,), AUTHORITY.chain_pem)

    def shown() -> StateView:
        records = issuance.ledger.records
        counts = dict(issuance.counts)
        return view(state, records, NOW, has_key=lambda _: True, counters=counts)

    return IdentityService(issuance, callers, limits=limits, state=shown)


def body(identity: SpiffeId = API) -> dict[str, str]:
    der = make_csr(identity, PrivateKey.generate())
    return {"csr": format_blocks([der], CERTIFICATE_REQUEST).decode()}


async def ask(
    method: str,
    path: str,
    app: IdentityService | None = None,
    *,
    headers: dict[bytes, bytes] = BEARER,
    content: bytes | AsyncIterator[bytes] | None = None,
    client: str = "10.0.0.1",
) -> httpx.Response:
    transport = httpx.ASGITransport(
        app=app or service(),  # type: ignore[arg-type]
        client=(client, 40_000),
    )
    async with httpx.AsyncClient(
        transport=transport, base_url="https://identity", trust_env=False
    ) as caller:
        return await caller.request(method, path, headers=headers, content=content)


def reason(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["reason"]


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()
