"""How a federated bundle ages, and what is newer than what."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from agent.identity.bundle import Bundle, InvalidBundle
from agent.identity.federated import FederatedDomain
from agent.identity.spiffe import TrustDomain
from agent.identity.spiffe_bundle import DEFAULT_REFRESH, SpiffeBundle, format_document
from agent.identity.standing import (
    FILE_REFRESH,
    LONGEST_REFRESH,
    SHORTEST_REFRESH,
    Standing,
    read_bundle,
)
from tests.unit.identity.parts import NOW, anchor_at

PARTNER = TrustDomain("partner.example")
PEM = anchor_at(td=PARTNER).certificate_pem
BUNDLE = Bundle.parse(PARTNER, PEM)
WEB = FederatedDomain(PARTNER, url="https://partner.example/bundle")


def told(sequence: int | None = None, hint: timedelta | None = None) -> SpiffeBundle:
    return SpiffeBundle(BUNDLE, sequence, hint)


def test_a_file_has_either_format() -> None:
    """What a neighbour exported, or the PEM that he mailed."""
    assert read_bundle(PARTNER, PEM).bundle == BUNDLE
    assert read_bundle(PARTNER, b"\n" + format_document(told(3))) == told(3)


class TestStanding:
    def test_an_older_bundle_is_no_news(self) -> None:
        """Its sequence tells; the newer one stays."""
        standing = Standing(WEB).learned(told(8), NOW)
        with pytest.raises(InvalidBundle, match="7 is older than 8"):
            standing.learned(told(7), NOW)
        assert standing.learned(told(8), NOW).learned(told(9), NOW).known == told(9)
        assert standing.learned(told(None), NOW).known == told(None)

    def test_the_last_good_one_stays(self) -> None:
        """A failure tells since when and why, and takes nothing away."""
        good = Standing(WEB).learned(told(1), NOW)
        once = good.failed("no answer", NOW + timedelta(minutes=5))
        twice = once.failed("refused", NOW + timedelta(minutes=9))

        assert (twice.known, twice.problem) == (told(1), "refused")
        assert twice.failing_since == NOW + timedelta(minutes=5)
        assert twice.learned(told(1), NOW).problem is None

    @pytest.mark.parametrize(
        ("hint", "pause"),
        [
            (None, DEFAULT_REFRESH),
            (timedelta(seconds=90), timedelta(seconds=90)),
            (timedelta(0), SHORTEST_REFRESH),
            (timedelta(days=365), LONGEST_REFRESH),
        ],
    )
    def test_the_hint_is_honoured(
        self, hint: timedelta | None, pause: timedelta
    ) -> None:
        """Within bounds (Federation 6.2)."""
        standing = Standing(WEB).learned(told(1, hint), NOW)
        assert standing.refresh == pause

    def test_a_file_is_looked_at_often(self) -> None:
        """It costs nothing."""
        domain = FederatedDomain(PARTNER, file=Path("/etc/partner.json"))
        assert Standing(domain).refresh == FILE_REFRESH
