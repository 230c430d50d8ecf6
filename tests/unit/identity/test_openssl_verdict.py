"""OpenSSL's numbers in our words; what it means by them is seen in proxy/test_tls."""

from __future__ import annotations

from agent.identity.certificate import Rule
from agent.identity.openssl_verdict import verdict


def test_a_known_number() -> None:
    """The rule, OpenSSL's own words and its number: nothing is lost."""
    finding = verdict(10, "certificate has expired")
    assert finding.rule is Rule.EXPIRED
    assert finding.detail == "certificate has expired (OpenSSL 10)"


def test_an_unknown_number() -> None:
    """A number of a later OpenSSL is still a refusal, with its words."""
    finding = verdict(9999, "some new reason")
    assert finding.rule is Rule.NOT_VERIFIED
    assert "some new reason" in str(finding)
