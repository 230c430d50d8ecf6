"""The identity service's answers, status by status, with no network between."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from agent.identity.asgi import Message
from agent.identity.endpoints import (
    MAX_BODY_BYTES,
    STRANGERS,
    IdentityService,
    Limits,
)
from agent.identity.limits import Rate
from agent.identity.report import TrustReport
from agent.identity.reviewing import JoinTokens
from agent.identity.spiffe_bundle import DEFAULT_REFRESH, SpiffeBundle
from agent.identity.spiffe_bundle import parse as parse_spiffe
from agent.identity.token import Caller
from agent.identity.trust import Trust
from tests.unit.identity.asking import (
    ADMIN,
    AUTHORITY,
    BEARER,
    KEY,
    TOKEN,
    ask,
    body,
    encoded,
    reason,
    service,
)
from tests.unit.identity.parts import (
    API,
    BATCH,
    NOW,
    TD,
    MemoryAudit,
    at_work,
    make_authority,
)


async def test_signs() -> None:
    """Chain and bundle come back; who got what is one log line."""
    with capture_logs() as lines:
        response = await ask("POST", "/v1/sign", content=encoded(body()))

    assert response.status_code == 200
    assert response.json()["trust"]["bundle"].encode() == AUTHORITY.bundle.pem
    assert response.json()["chain"].encode().endswith(AUTHORITY.chain_pem)
    (line,) = lines
    assert line["event"] == "certificate issued"
    assert (line["identity"], line["node"]) == (str(API), "n1")
    assert line["token_id"] == "id-1"
    assert line["not_after"] == "2026-03-02T12:00:00+00:00"
    assert int(line["serial"], 16) > 0


async def test_tells_the_anchors_to_anyone() -> None:
    """They are public; no token is needed."""
    response = await ask("GET", "/v1/bundle", headers={})

    assert response.status_code == 200
    assert response.json() == {
        "version": 1,
        "trust_domain": "cluster.local",
        "bundle": AUTHORITY.bundle.pem.decode(),
        "tainted": [],
        "retiring": [],
        "federated": [],
    }


async def test_is_a_spiffe_bundle_endpoint() -> None:
    """For other trust domains, without a token, as JSON (Federation 5.2.1.3)."""
    response = await ask("GET", "/v1/bundle/spiffe", headers={})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    told = parse_spiffe(AUTHORITY.trust_domain, response.content)
    assert told == SpiffeBundle(AUTHORITY.bundle, 1, DEFAULT_REFRESH)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", (400, "malformed_request")),
        (b"{", (400, "malformed_request")),
        (b"[]", (400, "malformed_request")),
        (b"{}", (400, "malformed_request")),
        (b'{"csr": 7}', (400, "malformed_request")),
        (b'{"csr": "\xff"}', (400, "malformed_request")),
        (b'{"csr": "\\ud800"}', (400, "malformed_request")),
        (b'{"x": ' + b"[" * 30_000, (400, "malformed_request")),
        (b'{"csr": ""}', (400, "csr_malformed")),
        (b'{"csr": "noise"}', (400, "csr_malformed")),
        (encoded(body(BATCH)), (403, "identity_not_on_node")),
        (b" " * (MAX_BODY_BYTES + 1), (413, "too_large")),
    ],
)
async def test_refuses_a_request(content: bytes, expected: tuple[int, str]) -> None:
    """Every refusal has a status, a code and a sentence."""
    assert reason(await ask("POST", "/v1/sign", content=content)) == expected


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/sign", 405),
        ("POST", "/v1/bundle", 405),
        ("POST", "/v1/bundle/spiffe", 405),
        ("POST", "/v1/bundle/stream", 405),
        ("GET", "/v1/acknowledgements", 405),
    ],
)
async def test_knows_its_endpoints(method: str, path: str, status: int) -> None:
    """Another path or method is told, with the one that would do."""
    response = await ask(method, path)

    assert reason(response)[0] == status
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "token_missing"),
        ({b"authorization": b""}, "token_missing"),
        ({b"authorization": b"Bearer"}, "token_missing"),
        ({b"authorization": b"Basic " + TOKEN.encode()}, "token_missing"),
        ({b"authorization": b"Bearer \xff"}, "token_malformed"),
        ({b"authorization": BEARER[b"authorization"] + b"x"}, "token_bad_signature"),
    ],
)
async def test_refuses_a_stranger(headers: dict[bytes, bytes], expected: str) -> None:
    """Without a good token the body is not even read; the log knows."""

    read = False

    async def watched() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"{}"

    with capture_logs() as lines:
        response = await ask("POST", "/v1/sign", headers=headers, content=watched())

    assert reason(response) == (401, expected)
    assert not read
    assert response.headers["www-authenticate"] == "Bearer"
    assert [line["reason"] for line in lines] == [expected]
    assert TOKEN not in repr(lines)


async def test_logs_a_refusal() -> None:
    """Which node asked for what, and why it did not get it."""
    with capture_logs() as lines:
        await ask("POST", "/v1/sign", content=encoded(body(BATCH)))

    (line,) = lines
    assert line["event"] == "certificate refused"
    assert (line["identity"], line["node"]) == (str(BATCH), "n1")
    assert line["reason"] == "identity_not_on_node"


async def test_says_that_the_authority_expired() -> None:
    """503: the caller did nothing wrong and asks again."""
    app = service(away=timedelta(days=366))
    response = await ask("POST", "/v1/sign", app, content=encoded(body()))

    assert reason(response) == (503, "authority_unusable")


async def test_uses_a_replaced_authority() -> None:
    """The next request is signed by the new one."""
    app = service()
    other = make_authority()
    app.issuance.replace(other, Trust(2, other.bundle))
    response = await ask("POST", "/v1/sign", app, content=encoded(body()))

    assert response.json()["chain"].encode().endswith(other.chain_pem)
    assert response.json()["trust"]["bundle"].encode() == other.bundle.pem


async def test_a_fault_of_ours_ends_one_request() -> None:
    """An unforeseen error is 500 without its text; the service lives on."""

    class Broken:
        async def review(self, token: str) -> Caller:
            raise RuntimeError(f"secret detail of {len(token)} bytes")

        async def spend(self, caller: Caller) -> None:
            raise NotImplementedError

    app = IdentityService(at_work(AUTHORITY), Broken())
    with capture_logs() as lines:
        response = await ask("POST", "/v1/sign", app, content=encoded(body()))

    assert reason(response) == (500, "internal")
    assert "secret detail" not in response.text
    assert [line["event"] for line in lines] == ["request failed"]


async def test_does_not_wait_for_a_slow_body(autojump_clock: MockClock) -> None:
    """Ten seconds for a request; then 408."""

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(3)
            yield b" "

    response = await ask("POST", "/v1/sign", content=dripping())
    assert reason(response) == (408, "too_slow")


async def test_keeps_a_nodes_report() -> None:
    """The answer is the version in force; another node's report is refused."""
    app = service()
    report = TrustReport("n1", 1)
    response = await ask("POST", "/v1/acknowledgements", app, content=report.format())
    assert (response.status_code, response.json()) == (200, {"version": 1})
    assert app.issuance.ledger.records["n1"].report == report

    for content, expected in (
        (TrustReport("n2", 1).format(), (403, "not_the_callers_identity")),
        (b"{}", (400, "malformed_report")),
    ):
        response = await ask("POST", "/v1/acknowledgements", app, content=content)
        assert reason(response) == expected
    assert app.issuance.ledger.records.keys() == {"n1"}


async def test_is_healthy_while_it_can_sign() -> None:
    """What a load balancer or a kubelet asks."""
    assert (await ask("GET", "/healthz", headers={})).json() == {"status": "ok"}
    expired = service(away=timedelta(days=366))
    response = await ask("GET", "/healthz", expired, headers={})
    assert reason(response) == (503, "authority_unusable")


class Listener:
    """A client of the stream: takes what it is sent, leaves when told to."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.status = 0
        self.left = trio.Event()
        self.takes = True

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self.takes:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.status = message.get("status", self.status)
        self.lines += message.get("body", b"").splitlines()


STREAM = {"type": "http", "method": "GET", "path": "/v1/bundle/stream", "headers": []}


async def test_streams_each_change(autojump_clock: MockClock) -> None:
    """First what is in force, then what changes; an empty line every 5 s."""
    app, listener = service(), Listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, STREAM, listener.receive, listener.send)
        await trio.sleep(31)
        app.issuance.replace(AUTHORITY, Trust(2, AUTHORITY.bundle))
        await trio.sleep(1)
        listener.left.set()
    first, *heartbeats, last = listener.lines
    assert listener.status == 200
    assert [Trust.parse(line).version for line in (first, last)] == [1, 2]
    assert heartbeats == [b""] * 6


async def test_leaves_a_listener_that_takes_nothing(autojump_clock: MockClock) -> None:
    """It would hold memory for nothing."""
    app, listener = service(), Listener()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app, STREAM, listener.receive, listener.send)
            await trio.sleep(1)
            listener.takes = False


async def test_limits_the_number_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told so; the others go on."""
    monkeypatch.setattr("agent.identity.endpoints.MAX_STREAMS", 0)
    assert reason(await ask("GET", "/v1/bundle/stream")) == (503, "too_many_streams")


async def test_takes_part_in_start_and_end() -> None:
    """The server's lifespan messages are answered (ASGI lifespan 2.0)."""
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        return next(incoming)

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message["type"])

    await service()({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_tells_its_state_to_admins() -> None:
    """Who signs, who needs what, and how often each thing happened."""
    app = service()
    await ask("POST", "/v1/sign", app, content=encoded(body()))
    await ask("POST", "/v1/sign", app, content=encoded(body(BATCH)))
    response = await ask("GET", "/v1/state", app, headers=ADMIN)
    assert response.status_code == 200
    told = response.json()
    assert told["anchors"][0]["role"] == "signing"
    assert [node["node"] for node in told["nodes"]] == ["n1"]
    assert told["counters"] == {
        "issued": 1,
        "refused:identity_not_on_node": 1,
        "http:403:identity_not_on_node": 1,
    }
    assert reason(await ask("GET", "/v1/state", app)) == (403, "not_an_admin")
    refused = await ask("POST", "/v1/sign", app, headers=ADMIN, content=encoded(body()))
    assert reason(refused) == (403, "not_the_callers_identity")


async def test_limits_one_node_and_not_the_others() -> None:
    """429 says when to come again; the log and the counters know."""
    app = service(limits=Limits(Rate(per_second=0.5, burst=1)))
    await ask("POST", "/v1/sign", app, content=encoded(body()))
    with capture_logs() as lines:
        response = await ask("POST", "/v1/sign", app, content=encoded(body()))
    assert reason(response) == (429, "too_many_requests")
    assert response.headers["retry-after"] == "2"
    assert [line["reason"] for line in lines] == ["rate"]
    assert app.issuance.counts["http:429:too_many_requests"] == 1
    assert (await ask("GET", "/v1/state", app, headers=ADMIN)).status_code == 200


async def test_a_flood_of_bad_tokens_is_not_judged(autojump_clock: MockClock) -> None:
    """
    From one address: a node elsewhere is served meanwhile, and one at that address
    as soon as the flood ends. A good token costs nothing.
    """
    app = service()
    judge = Judge()
    app._reviewer = judge
    bad = {b"authorization": b"Bearer nonsense"}
    told: Counter[int] = Counter()

    async def flood() -> None:
        response = await ask("POST", "/v1/sign", app, headers=bad)
        told[response.status_code] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(flood)
    assert told == {401: STRANGERS.burst, 429: 1000 - STRANGERS.burst}
    assert judge.asked == STRANGERS.burst
    content = encoded(body())
    elsewhere = await ask("POST", "/v1/sign", app, content=content, client="10.0.0.9")
    assert elsewhere.status_code == 200
    await trio.sleep(2)
    for _ in range(STRANGERS.burst + 10):
        response = await ask("POST", "/v1/sign", app, content=content)
        assert response.status_code == 200


class Judge:
    """Takes its time, as an API server does, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self._callers = JoinTokens(KEY, TD, clock=lambda: NOW)

    async def review(self, token: str) -> Caller:
        self.asked += 1
        await trio.sleep(0.1)
        return await self._callers.review(token)

    async def spend(self, caller: Caller) -> None:
        await self._callers.spend(caller)


async def test_limits_what_is_in_hand_at_once() -> None:
    """One that drips its body holds a place, and no more than that."""
    app = service(limits=Limits(concurrent=1))
    begun, go_on = trio.Event(), trio.Event()

    async def slow() -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        yield encoded(body())

    async def first() -> None:
        response = await ask("POST", "/v1/sign", app, content=slow())
        assert response.status_code == 200

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await begun.wait()
        response = await ask("POST", "/v1/sign", app, content=encoded(body()))
        assert reason(response) == (503, "overloaded")
        assert response.headers["retry-after"] == "1"
        go_on.set()
    again = await ask("POST", "/v1/sign", app, content=encoded(body()))
    assert again.status_code == 200


async def test_a_full_disk_is_an_outage() -> None:
    """No certificate without its audit line; the caller asks again."""
    app = service(audit=FULL)
    response = await ask("POST", "/v1/sign", app, content=encoded(body()))
    assert reason(response) == (503, "audit_unavailable")
    assert "chain" not in response.json()


FULL = MemoryAudit()
FULL.full = True
