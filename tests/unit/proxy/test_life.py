"""When a tunnel takes no new streams, and when its peer is given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.proxy.life import LATELY_SECONDS, Life
from agent.proxy.limits import ProxyLimits

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMITS = ProxyLimits(tunnel_max_age_seconds=1000.0)
LIFE = Life.begun(LIMITS, NOW + timedelta(hours=1), 50.0)


def test_one_without_streams_goes_after_its_clients_pool() -> None:
    after = 50.0 + 2 * LIMITS.idle_tunnel_seconds
    assert not LIFE.is_done(after, NOW, streams=0)
    assert LIFE.is_done(after + 1, NOW, streams=0)
    assert not LIFE.is_done(after + 1, NOW, streams=1)


def test_its_age_and_its_certificates_end_it() -> None:
    assert LIFE.is_done(1050.0, NOW, streams=1)
    assert LIFE.is_done(60.0, NOW + timedelta(hours=1), streams=1)
    assert not LIFE.is_done(60.0, NOW, streams=1)


def test_a_peer_that_is_silent_or_does_not_read() -> None:
    patience = LIMITS.ping_timeout_seconds
    assert LIFE.is_dead(50.0 + patience, None) is None
    assert "silent" in (LIFE.is_dead(51.0 + patience, None) or "")
    heard = replace(LIFE, last_heard=100.0)
    assert heard.is_dead(100.0, 100.0 - patience) is None
    assert "has not read" in (heard.is_dead(101.0, 100.0 - patience) or "")


def test_lately() -> None:
    assert LIFE.heard_lately(50.0 + LATELY_SECONDS / 2)
    assert not LIFE.heard_lately(50.0 + LATELY_SECONDS)
