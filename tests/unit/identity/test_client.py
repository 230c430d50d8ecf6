"""The agent's side: what the service says becomes an answer or one of two errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import trio

from agent.dependencies import Dependency
from agent.findings import Faults
from agent.identity.acquaintance import InvalidAnchors
from agent.identity.client import (
    MAX_ANSWER_BYTES,
    IdentityClient,
    InvalidClientSettings,
)
from agent.identity.csr import make_csr
from agent.identity.endpoints import IdentityService
from agent.identity.key import PrivateKey
from agent.identity.report import TrustReport
from agent.identity.reviewing import JoinTokens
from agent.identity.source import IdentityRefused, IdentityUnavailable
from agent.identity.token import NodeCaller, TokenKey, issue_token
from agent.identity.trust import Trust
from tests.unit.identity.parts import API, BATCH, NOW, TD, at_work, make_authority

AUTHORITY = make_authority()
ANCHORS = AUTHORITY.bundle.pem
KEY = TokenKey(b"k" * 32)
URL = "https://identity.example:8443"
CSR = make_csr(API, PrivateKey.generate())

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    token = issue_token(
        KEY, TD, NodeCaller("n1", "id"), now=NOW, ttl=timedelta(hours=1)
    )
    path = tmp_path / "token"
    path.write_text(token + "\n")
    return path


def connected(token_file: Path) -> IdentityClient:
    """A client whose network is the application itself."""
    callers = JoinTokens(KEY, TD, clock=lambda: NOW)
    app = IdentityService(at_work(AUTHORITY, ("n1", API)), callers)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    return IdentityClient(URL, ANCHORS, token_file, transport=transport)


def answered(token_file: Path, answer: Answer) -> IdentityClient:
    transport = httpx.MockTransport(answer)
    return IdentityClient(URL, ANCHORS, token_file, transport=transport)


async def test_signs_and_learns_the_anchors(token_file: Path) -> None:
    """Client and service understand each other."""
    async with connected(token_file) as client:
        signed = await client.sign(CSR)
        assert signed.trust == Trust(1, AUTHORITY.bundle)
        assert signed.chain_pem.endswith(AUTHORITY.chain_pem)


async def test_a_refusal_has_the_services_reason(token_file: Path) -> None:
    """403 is final for the request, and says why."""
    async with connected(token_file) as client:
        with pytest.raises(IdentityRefused, match="runs on node n1") as caught:
            await client.sign(make_csr(BATCH, PrivateKey.generate()))
    assert caught.value.reason == "identity_not_on_node"


async def test_reads_the_token_for_each_request(token_file: Path) -> None:
    """A projected token is replaced under us; the next request has the new one."""
    path = trio.Path(token_file)
    good = await path.read_text()
    async with connected(token_file) as client:
        await path.write_text("stale")
        with pytest.raises(IdentityRefused, match="token_malformed"):
            await client.sign(CSR)
        await path.write_text(good)
        await client.sign(CSR)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff", b"x" * 9000])
async def test_names_a_token_file_without_token(
    token_file: Path, content: bytes | None
) -> None:
    """Missing, empty or unreadable: told by name, and asked again later."""
    await trio.Path(token_file).unlink()
    if content is not None:
        await trio.Path(token_file).write_bytes(content)
    async with connected(token_file) as client:
        with pytest.raises(IdentityUnavailable, match=str(token_file)):
            await client.sign(CSR)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(200, content=b"<html>"), "answer: JSON"),
        (httpx.Response(200, json={"chain": "x"}), "answer: Object missing"),
        (httpx.Response(200, content=b" " * (MAX_ANSWER_BYTES + 1)), "more than"),
        (httpx.Response(302, headers={"location": "https://evil/"}), "status 302"),
        (httpx.Response(404, content=b"proxy says no"), "status 404"),
        (
            httpx.Response(503, json={"error": {"reason": "a", "message": "b"}}),
            "a: b",
        ),
        (
            httpx.Response(429, json={"error": {"reason": "a", "message": "b"}}),
            "a: b",
        ),
    ],
)
async def test_odd_answers_can_be_asked_again(
    token_file: Path, response: httpx.Response, message: str
) -> None:
    """What is not the service's own refusal is an outage: nothing is believed."""
    async with answered(token_file, lambda _: response) as client:
        with pytest.raises(IdentityUnavailable, match=message):
            await client.sign(CSR)


async def test_a_broken_network_can_be_asked_again(token_file: Path) -> None:
    """The message names the service's address."""

    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    async with answered(token_file, unreachable) as client:
        with pytest.raises(IdentityUnavailable, match=r"identity\.example.*refused"):
            await anext(client.watch())


async def test_a_damaged_memory_is_a_fault_until_the_service_answers(
    token_file: Path, tmp_path: Path
) -> None:
    memory, faults = tmp_path / "trust.json", Faults()
    memory.write_text("{")
    lines = Trust(2, AUTHORITY.bundle).format() + b"\n"
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=lines))
    async with IdentityClient(
        *(URL, ANCHORS, token_file), memory=memory, transport=transport, faults=faults
    ) as client:
        ((subject, _message),) = faults
        assert subject == str(memory)
        async with aclosing(client.watch()) as changes:
            await anext(changes)
        assert list(faults) == []


def why(contact: Dependency) -> str:
    return contact.why or ""


async def test_what_became_of_it_is_reported(token_file: Path) -> None:
    """A refusal is an answer; of an outage the system's own words are told."""
    answers = [
        httpx.Response(403, content=b'{"error": {"reason": "r", "message": "m"}}'),
        None,
        httpx.Response(502, content=b"a proxy"),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        if (found := answers.pop(0)) is not None:
            return found
        first, second = OSError(111, "Connection refused"), OSError(113, "No route")
        error = httpx.ConnectError("all attempts to connect failed", request=request)
        raise error from ExceptionGroup("attempts", [first, second])

    contact = Dependency("identity service", URL)
    transport = httpx.MockTransport(answer)
    async with IdentityClient(
        URL, ANCHORS, token_file, transport=transport, contact=contact
    ) as client:
        with pytest.raises(IdentityRefused):
            await client.sign(CSR)
        assert why(contact) == ""
        with pytest.raises(IdentityUnavailable, match="Connection refused"):
            await client.sign(CSR)
        assert "Connection refused" in why(contact)
        with pytest.raises(IdentityUnavailable):
            await client.sign(CSR)
        assert "502" in why(contact)


def stream(*chunks: bytes) -> httpx.Response:
    return httpx.Response(200, content=b"".join(chunks))


async def test_follows_the_stream(token_file: Path) -> None:
    """One trust a line, empty lines between; its end is an outage like others."""
    versions = [Trust(n, AUTHORITY.bundle) for n in (1, 2)]
    lines = b"\n\n".join(trust.format() for trust in versions) + b"\n"
    async with answered(token_file, lambda _: stream(lines)) as client:
        changes = client.watch()
        heard = [await anext(changes), await anext(changes)]
        with pytest.raises(IdentityUnavailable, match="the stream ended"):
            await anext(changes)
    assert heard == versions


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (stream(b"<html>\n"), "trust: JSON"),
        (stream(b'{"version": 0}\n'), "version"),
        (stream(b"x" * (MAX_ANSWER_BYTES + 1)), "line: over"),
        (httpx.Response(502, content=b"a proxy"), "status 502"),
    ],
)
async def test_an_odd_stream_is_an_outage(
    token_file: Path, response: httpx.Response, message: str
) -> None:
    """Nothing of it is believed; the caller asks again."""
    async with answered(token_file, lambda _: response) as client:
        with pytest.raises(IdentityUnavailable, match=message):
            await anext(client.watch())


async def test_acknowledges(token_file: Path) -> None:
    """The node's word arrives; another node's is refused with the reason."""
    async with connected(token_file) as client:
        await client.acknowledge(TrustReport("n1", 1))
        with pytest.raises(IdentityRefused, match="report of node n2"):
            await client.acknowledge(TrustReport("n2", 1))


@pytest.mark.parametrize(
    ("url", "anchors", "message"),
    [
        ("http://identity", ANCHORS, "expected https"),
        (URL, b"", "trust anchors"),
        (URL, b"noise", "trust anchors"),
        (URL, b"\xff", "trust anchors"),
    ],
)
def test_refuses_settings(
    tmp_path: Path, url: str, anchors: bytes, message: str
) -> None:
    """Plain HTTP and unreadable anchors are told at once."""
    with pytest.raises((InvalidClientSettings, InvalidAnchors), match=message):
        IdentityClient(url, anchors, tmp_path / "token")
