"""One identity's certificate, in full and while there is none."""

from __future__ import annotations

from agent.app.trust_documents import certificate
from agent.identity.chain import Chain
from agent.identity.schedule import Schedule
from tests.unit.identity.parts import API, NOW, credential_for, make_authority

AUTHORITY = make_authority()
CREDENTIAL = credential_for(AUTHORITY, API, serial=0xABC)


def test_a_certificate() -> None:
    """What it is, on what it stands, when it came and when the next one is due."""
    schedule = Schedule()
    schedule.set_wanted([API], NOW)
    schedule.start(NOW)
    schedule.succeeded(API, CREDENTIAL, NOW, 0.5)
    (status,) = schedule.report(NOW)
    chain = Chain.of_credential(CREDENTIAL, AUTHORITY.bundle)
    told = certificate(status, chain)
    assert (told["serial"], told["state"]) == ("abc", "valid")
    assert (told["anchor"], told["issuer"]) == (chain.anchor, chain.issuer)
    assert told["renewed_at"] == "2026-03-01T12:00:00.000Z"
    assert told["renew_at"] == "2026-03-02T04:47:24.000Z"


def test_none_yet() -> None:
    """Every key is there, and null."""
    schedule = Schedule()
    schedule.set_wanted([API], NOW)
    (status,) = schedule.report(NOW)
    told = certificate(status, None)
    assert told["state"] == "no certificate yet"
    assert {told["serial"], told["anchor"], told["issuer"], told["renewed_at"]} == {
        None
    }
