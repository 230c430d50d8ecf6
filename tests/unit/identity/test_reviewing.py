"""A token for one certificate is good for one, across restarts."""

from __future__ import annotations

import gc
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from agent.identity.csr import make_csr
from agent.identity.key import PrivateKey
from agent.identity.ledger import LedgerUnavailable
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.reviewing import USED_TOKENS, JoinTokens, UsedTokens
from agent.identity.signing import SigningRefused
from agent.identity.spiffe import SpiffeId
from agent.identity.store import InvalidKeystore
from agent.identity.token import (
    Caller,
    NodeCaller,
    TokenFault,
    TokenKey,
    TokenRefused,
    issue_token,
)
from tests.unit.identity.parts import API, BATCH, NOW, TD, at_work, make_authority

KEY = TokenKey(b"k" * 32)
HOUR = timedelta(hours=1)
ONCE = issue_token(
    KEY, TD, NodeCaller("n1", "id-1"), now=NOW, ttl=HOUR, single_use=True
)
AUTHORITY = make_authority()


def csr(identity: SpiffeId = API) -> bytes:
    der = make_csr(identity, PrivateKey.generate())
    return format_blocks([der], CERTIFICATE_REQUEST)


def tokens(directory: Path) -> JoinTokens:
    used = UsedTokens.open(directory, NOW)
    return JoinTokens(KEY, TD, used, clock=lambda: NOW)


async def use(reviewer: JoinTokens, csr_pem: bytes) -> None:
    issuance = at_work(AUTHORITY, ("n1", API))
    caller = await reviewer.review(ONCE)
    await issuance.sign(caller, csr_pem, reviewer.spend)


async def test_the_second_use_is_refused(tmp_path: Path) -> None:
    """A request that was refused has used nothing up."""
    reviewer = tokens(tmp_path)
    for bad in (b"noise", csr(BATCH)):
        with pytest.raises(SigningRefused):
            await use(reviewer, bad)
    await use(reviewer, csr())
    with pytest.raises(TokenRefused) as caught:
        await use(reviewer, csr())
    assert caught.value.fault is TokenFault.USED


async def test_of_two_at_once_one_is_refused(tmp_path: Path) -> None:
    """Whatever the disk takes."""
    reviewer = tokens(tmp_path)
    caller = await reviewer.review(ONCE)
    outcomes: list[str] = []

    async def spend(caller: Caller) -> None:
        try:
            await reviewer.spend(caller)
            outcomes.append("spent")
        except TokenRefused:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(spend, caller)
        nursery.start_soon(spend, caller)
    assert sorted(outcomes) == ["refused", "spent"]


async def test_a_restart_remembers(tmp_path: Path) -> None:
    """Until the token has expired by itself; two at once cannot serve."""
    reviewer = tokens(tmp_path)
    await use(reviewer, csr())
    with pytest.raises(InvalidKeystore, match="another process serves"):
        tokens(tmp_path)
    assert reviewer.used is not None
    reviewer.used.close()
    again = tokens(tmp_path)
    with pytest.raises(TokenRefused):
        await use(again, csr())
    assert again.used is not None
    again.used.close()
    UsedTokens.open(tmp_path, NOW + 2 * HOUR).close()
    assert (tmp_path / USED_TOKENS).read_bytes() == b""
    gc.collect()


async def test_a_full_disk_spends_nothing(tmp_path: Path) -> None:
    """And gives no certificate."""
    reviewer = tokens(tmp_path)
    path = trio.Path(tmp_path / USED_TOKENS)
    await path.unlink()
    await path.symlink_to("/dev/full")
    with pytest.raises(LedgerUnavailable, match="No space left"):
        await use(reviewer, csr())
    await path.unlink()
    await use(reviewer, csr())


async def test_without_a_record_none_is_taken() -> None:
    """Closed: who cannot remember must not accept."""
    with pytest.raises(TokenRefused, match="no record of used ones"):
        await use(JoinTokens(KEY, TD, clock=lambda: NOW), csr())


def test_a_broken_record_is_told(tmp_path: Path) -> None:
    """A torn last line was never answered; any other is not guessed at."""
    path = tmp_path / USED_TOKENS
    line = b'{"token_id":"x","until":"2026-03-01T13:00:00Z"}\n'
    path.write_bytes(line + b'{"tok')
    UsedTokens.open(tmp_path, NOW).close()
    assert path.read_bytes() == line
    path.write_bytes(b"noise\n" + line)
    with pytest.raises(InvalidKeystore, match="used-tokens"):
        UsedTokens.open(tmp_path, NOW)
