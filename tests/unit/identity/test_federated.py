"""What may be configured as a federated domain: nothing missing, nothing ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.identity.federated import FederatedDomain, InvalidFederation
from agent.identity.spiffe import SpiffeId, TrustDomain

PARTNER = TrustDomain("partner.example")
SERVER = SpiffeId.parse("spiffe://partner.example/bundle")
ELSEWHERE = SpiffeId.parse("spiffe://broker.example/bundle")
FILE, URL = Path("/etc/partner.json"), "https://partner.example/bundle"


@pytest.mark.parametrize(
    "fields",
    [
        {"file": FILE},
        {"url": URL},
        {"url": URL, "web_anchors": FILE},
        {"url": URL, "profile": "https_spiffe", "endpoint_id": SERVER, "file": FILE},
        {"url": URL, "profile": "https_spiffe", "endpoint_id": ELSEWHERE},
    ],
)
def test_what_may_be_configured(fields: dict[str, Any]) -> None:
    """A file, or an endpoint with all that its profile needs."""
    assert FederatedDomain(PARTNER, **fields).place in {str(FILE), URL}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "a file or a url"),
        ({"url": "http://partner.example/"}, "https://"),
        ({"url": "https://user@partner.example/"}, "without a user"),
        ({"url": "https:///bundle"}, "https://HOST"),
        ({"url": URL, "file": FILE}, "https_spiffe only"),
        ({"url": URL, "endpoint_id": SERVER}, "https_spiffe only"),
        ({"url": URL, "profile": "https_spiffe"}, "endpoint_id: expected"),
        (
            {"url": URL, "profile": "https_spiffe", "endpoint_id": SERVER},
            "the first bundle",
        ),
        (
            {
                "url": URL,
                "profile": "https_spiffe",
                "endpoint_id": ELSEWHERE,
                "web_anchors": FILE,
            },
            "https_web only",
        ),
        ({"file": FILE, "endpoint_id": SERVER}, "with a url only"),
    ],
)
def test_what_may_not(fields: dict[str, Any], told: str) -> None:
    """Nothing that would be ignored, and nothing that is missing."""
    with pytest.raises(InvalidFederation, match=rf"partner\.example: .*{told}"):
        FederatedDomain(PARTNER, **fields)
