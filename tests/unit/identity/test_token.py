"""A join token says who calls, and every refusal says why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.token import (
    MAX_TOKEN_BYTES,
    Caller,
    InvalidTokenRequest,
    NodeCaller,
    TokenFault,
    TokenKey,
    TokenRefused,
    WorkloadCaller,
    issue_token,
    verify_token,
)
from tests.unit.identity.parts import API, NOW, TD

KEY = TokenKey(b"k" * 32)
NODE = NodeCaller("node-1.example", "id-1")
HOUR = timedelta(hours=1)


def forged(changes: Mapping[str, object] = {}, *, without: str = "") -> str:
    """A token signed with the right key and other claims."""
    stamp = int(NOW.timestamp())
    claims: dict[str, Any] = {
        "iss": str(TD),
        "aud": "podlock",
        "sub": "node:n",
        "iat": stamp,
        "exp": stamp + 60,
        "jti": "x",
    }
    claims.update(changes)
    claims.pop(without, None)
    return jwt.encode(claims, KEY.secret, algorithm="HS256")


def fault(token: str) -> TokenFault:
    with pytest.raises(TokenRefused) as caught:
        verify_token(KEY, TD, token, now=NOW)
    assert KEY.secret.decode() not in str(caught.value)
    return caught.value.fault


@pytest.mark.parametrize("caller", [NODE, WorkloadCaller(API, "id-2")])
def test_names_its_bearer(caller: Caller) -> None:
    """A node or one workload, with the token's own id for the log."""
    token = issue_token(KEY, TD, caller, now=NOW, ttl=HOUR)

    assert verify_token(KEY, TD, token, now=NOW + HOUR / 2) == caller


@pytest.mark.parametrize(
    ("away", "expected"),
    [
        (HOUR, TokenFault.EXPIRED),
        (timedelta(days=9), TokenFault.EXPIRED),
        (timedelta(minutes=-3), TokenFault.NOT_YET_VALID),
    ],
)
def test_has_its_time(away: timedelta, expected: TokenFault) -> None:
    """`now` is an argument; two minutes of skew are allowed before, none after."""
    token = issue_token(KEY, TD, NODE, now=NOW, ttl=HOUR)

    verify_token(KEY, TD, token, now=NOW - timedelta(minutes=1))
    with pytest.raises(TokenRefused) as caught:
        verify_token(KEY, TD, token, now=NOW + away)
    assert caught.value.fault is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"aud": "other"}, TokenFault.AUDIENCE),
        ({"aud": ["podlock", "other"]}, TokenFault.AUDIENCE),
        ({"iss": "other"}, TokenFault.ISSUER),
        ({"sub": "root"}, TokenFault.SUBJECT),
        ({"sub": "node:"}, TokenFault.SUBJECT),
        ({"sub": "node:../x"}, TokenFault.SUBJECT),
        ({"sub": "node:" + "n" * 254}, TokenFault.SUBJECT),
        ({"sub": "workload:http://x"}, TokenFault.SUBJECT),
        ({"sub": "workload:spiffe://other/ns/a/sa/b"}, TokenFault.SUBJECT),
        ({"exp": "tomorrow"}, TokenFault.MALFORMED),
        ({"iat": 0.5}, TokenFault.MALFORMED),
        ({"sub": 7}, TokenFault.MALFORMED),
        ({"jti": 7}, TokenFault.MALFORMED),
    ],
)
def test_refuses_claims(changes: dict[str, object], expected: TokenFault) -> None:
    """A right signature over wrong claims is still refused."""
    assert fault(forged(changes)) is expected


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "iat", "exp", "jti"])
def test_needs_every_claim(claim: str) -> None:
    """None of the six is optional: a token without `exp` would be for ever."""
    assert fault(forged(without=claim)) in {
        TokenFault.MALFORMED,
        TokenFault.AUDIENCE,
        TokenFault.ISSUER,
    }


def test_refuses_another_key() -> None:
    """The signature is ours or the token is nothing."""
    token = issue_token(TokenKey(b"x" * 32), TD, NODE, now=NOW, ttl=HOUR)

    assert fault(token) is TokenFault.SIGNATURE


def test_refuses_other_algorithms() -> None:
    """`none` and longer digests are not asked for, so not taken."""
    claims = jwt.decode(forged(), options={"verify_signature": False})

    assert fault(jwt.encode(claims, "", algorithm="none")) is TokenFault.ALGORITHM
    other = jwt.encode(claims, KEY.secret * 2, algorithm="HS512")
    assert fault(other) is TokenFault.ALGORITHM


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c", "..", "\ud800", "é.é.é", "x" * (MAX_TOKEN_BYTES + 1)]
)
def test_refuses_what_is_no_token(token: str) -> None:
    """Noise is malformed, not a crash."""
    assert fault(token) is TokenFault.MALFORMED


@given(st.text())
def test_any_text_is_refused(token: str) -> None:
    """Nothing but TokenRefused comes out of noise."""
    fault(token)


def test_refuses_to_make_nonsense() -> None:
    """No lifetime, another realm, a bad node name and a short key are told."""
    foreign = SpiffeId(TrustDomain("other"), ("a",))
    with pytest.raises(InvalidTokenRequest, match="more than 0"):
        issue_token(KEY, TD, NODE, now=NOW, ttl=timedelta(0))
    with pytest.raises(InvalidTokenRequest, match="not of cluster"):
        issue_token(KEY, TD, WorkloadCaller(foreign, "x"), now=NOW, ttl=HOUR)
    with pytest.raises(InvalidTokenRequest, match="DNS name"):
        NodeCaller("Node_1", "x")
    with pytest.raises(InvalidTokenRequest, match="expected 32 or more"):
        TokenKey(b"short")


def test_the_key_never_prints() -> None:
    """Its text is the same for every key."""
    assert repr(KEY) == str(KEY) == "<TokenKey ...>"
