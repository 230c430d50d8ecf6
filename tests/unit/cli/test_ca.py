"""An authority can be made, looked at and changed from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.identity.bundle import Bundle
from agent.identity.nodes import NodeRecords
from agent.identity.operations import federate
from agent.identity.report import Presented, TrustReport
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.spiffe_bundle import parse
from agent.identity.store import Store
from agent.identity.trust import Trust
from tests.unit.identity.parts import anchor_at

from .conftest import Type

API = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/api")


class Desk:
    """An operator at one authority's directory."""

    def __init__(self, type_: Type, directory: Path) -> None:
        self._type = type_
        self.directory = directory

    def ca(self, *words: object, code: int = 0) -> str:
        """Standard output of `podlock ca ...`; or, for a failure, standard error."""
        result = self._type("ca", *words, "--directory", self.directory)
        assert result.exit_code == code, result.output
        return result.stderr if code in {1, 2} else result.stdout

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self.ca(*words, "--json", code=code))

    def anchor(self) -> str:
        """The signing anchor's fingerprint."""
        anchors = self.json("show")["anchors"]
        (found,) = (a["fingerprint"] for a in anchors if a["role"] == "signing")
        assert isinstance(found, str)
        return found

    def report(self, version: int | None = None, anchor: str | None = None) -> None:
        """Node n1 tells what it has."""
        now = datetime.now(UTC)
        held = Presented(API, anchor or "", "b" * 64, 1, now + timedelta(days=1), now)
        version = version or self.json("show")["version"]
        report = TrustReport("n1", version, (held,) if anchor else ())
        NodeRecords(self.directory).heard({}, report, now)


@pytest.fixture
def desk(type_: Type, tmp_path: Path) -> Desk:
    made = Desk(type_, tmp_path / "ca")
    assert "a new authority of cluster.local" in made.ca("init")
    return made


def test_shows_for_programs_and_for_people(desk: Desk) -> None:
    """Anchors by fingerprint, the issuer's end, and no key."""
    document = desk.json("show")
    assert document["trust_domain"] == "cluster.local"
    assert len(document["anchors"][0]["fingerprint"]) == 64
    assert document["issuer"]["not_after"] > datetime.now(UTC).isoformat()
    text = desk.ca("show")
    assert document["issuer"]["fingerprint"] in text
    assert "signing" in text
    assert "PRIVATE" not in text


def test_an_authority_is_not_overwritten(desk: Desk) -> None:
    """A second `init` would make every certificate worthless."""
    before = desk.anchor()
    assert "never overwritten" in desk.ca("init", code=1)
    assert desk.anchor() == before


def test_replaces_an_anchor(desk: Desk) -> None:
    """Each step is refused until the one before has arrived everywhere."""
    old = desk.anchor()
    desk.report()
    new = desk.json("add-anchor")["fingerprint"]
    assert "n1: has version 2 of the trust, not 3" in desk.ca(
        "promote-anchor", new, code=1
    )
    desk.report()
    assert f"anchor {new} signs from now on" in desk.ca("promote-anchor", new[:12])

    desk.report(anchor=old)
    text = desk.ca("show", "--may-retire", old, code=3)
    assert f"not yet: anchor {old} is needed by\n" in text
    assert f"{API}: presents a certificate under it on n1" in text
    refused = desk.ca("retire-anchor", old, code=1)
    assert f"{API}: presents a certificate under it on n1" in refused
    assert desk.json("show", "--may-retire", old, code=3)["needed_by"][0]["why"] == (
        "presented"
    )

    desk.report()
    assert "yes: nothing needs" in desk.ca("show", "--may-retire", old)
    assert "is not trusted any more" in desk.ca("retire-anchor", old)
    assert [a["fingerprint"] for a in desk.json("show")["anchors"]] == [new]


def test_force_prints_what_it_broke(desk: Desk) -> None:
    """So that somebody can be told."""
    old = desk.anchor()
    new = desk.json("add-anchor")["fingerprint"]
    desk.report(version=1)
    desk.ca("promote-anchor", new, "--force")
    text = desk.ca("retire-anchor", old, "--force")
    assert "broke n1: has version 1 of the trust, not 4" in text


def test_a_node_that_will_not_come_back(desk: Desk) -> None:
    """No anchor waits for it any more."""
    desk.report(version=1)
    assert desk.json("show")["nodes"][0]["current"] is False
    desk.ca("forget-node", "n1")
    assert desk.json("show")["nodes"] == []
    assert "node n1: is not known" in desk.ca("forget-node", "n1", code=1)


def test_rotates_and_taints_an_issuer(desk: Desk) -> None:
    """The old one is retiring; after the taint it is tainted, and signs never again."""
    first = desk.json("show")["issuer"]["fingerprint"]
    assert desk.json("rotate-issuer", "--lifetime", "30d")["version"] == 3
    shown = desk.json("show")
    assert [mark["fingerprint"] for mark in shown["retiring"]] == [first]
    second = shown["issuer"]["fingerprint"]
    assert second != first
    assert f"issuer {second} is tainted" in desk.ca("taint", second)
    shown = desk.json("show")
    assert [mark["fingerprint"] for mark in shown["tainted"]] == [second]
    assert shown["issuer"]["fingerprint"] not in {first, second}
    assert "tainted" in desk.ca("show")


def test_an_anchor_whose_key_is_elsewhere(
    type_: Type, desk: Desk, tmp_path: Path
) -> None:
    """Made without it; says what comes next, and signs nothing until then."""
    anchor = tmp_path / "anchor.crt"
    desk.ca("export", "--output", anchor)
    offline = Desk(type_, tmp_path / "offline")
    assert "rotate-issuer --csr FILE" in offline.ca("init", "--anchor", anchor)
    assert "none: nothing can be signed" in offline.ca("show")
    assert "key is not here" in offline.ca("rotate-issuer", code=1)
    request = tmp_path / "issuer.csr"
    offline.ca("rotate-issuer", "--csr", request)
    assert request.read_text().startswith("-----BEGIN CERTIFICATE REQUEST")
    assert offline.json("show")["request_waits"] is True
    assert "waits for its certificate" in offline.ca("show")
    assert "its key is not here" in offline.ca(
        "rotate-issuer", "--certificate", anchor, code=1
    )


def test_exports_what_is_to_be_trusted(desk: Desk, tmp_path: Path) -> None:
    """The anchors as PEM, or everything that agents are told."""
    assert desk.ca("export").encode() == (desk.directory / "ca.crt").read_bytes()
    trust = Trust.parse(desk.ca("export", "--format", "trust").encode())
    assert trust.version == 2
    assert [a.fingerprint for a in trust.bundle.anchors] == [desk.anchor()]


def test_exports_a_spiffe_bundle(desk: Desk) -> None:
    """What other trust domains federate by: a JWK Set, without keys of ours."""
    document = desk.ca("export", "--format", "spiffe").encode()
    told = parse(API.trust_domain, document)

    assert told.bundle == Store(desk.directory).load().bundle
    assert told.sequence == 2
    assert b"PRIVATE" not in document


def test_shows_whom_it_federates_with(desk: Desk) -> None:
    """Each foreign domain with the anchors that are in force for it."""
    partner = TrustDomain("partner.example")
    anchor = anchor_at(datetime.now(UTC), td=partner)
    bundle = Bundle.parse(partner, anchor.certificate_pem)
    federate(Store(desk.directory), (bundle,), datetime.now(UTC))

    name = bundle.anchors[0].fingerprint
    shown = {"trust_domain": "partner.example", "anchors": [name]}
    assert desk.json("show")["federated"] == [shown]
    assert f"federated     partner.example\n              {name}" in desk.ca("show")


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("taint",), 2, "a fingerprint, or --certificate"),
        (("taint", "ffffffff"), 1, "is not known; known: "),
        (("taint", "ff"), 1, "expected 6 digits or more"),
        (("retire-anchor", "ffffffff"), 1, "trust anchor ffffffff: is not known"),
        (("promote-anchor", "ffffffff"), 1, "trust anchor ffffffff: is not known"),
        (("show", "--may-retire", "ffffffff"), 1, "anchor ffffffff: expected one of"),
        (("show", "--service", "https://x"), 2, "expected --anchors and --token"),
        (("add-anchor", "--certificate", "/nonexistent"), 1, "/nonexistent: missing"),
        (("add-anchor", "--lifetime", "soon"), 2, "expected 90s, 15m, 24h or 30d"),
        (("rotate-issuer", "--csr", "a", "--certificate", "b"), 2, "not both"),
    ],
)
def test_refuses(desk: Desk, words: tuple[str, ...], code: int, complaint: str) -> None:
    """Wrong usage is 2, what cannot be done is 1, and nothing has changed."""
    before = desk.json("show")["version"]
    assert complaint in desk.ca(*words, code=code)
    assert desk.json("show")["version"] == before


def test_names_a_directory_without_an_authority(type_: Type, tmp_path: Path) -> None:
    """Every command does."""
    for words in (
        ("show",),
        ("rotate-issuer",),
        ("add-anchor",),
        ("export",),
        ("forget-node", "n1"),
    ):
        result = type_("ca", *words, "--directory", tmp_path)
        assert result.exit_code == 1
        assert str(tmp_path / "authority.json") in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("rotate-issuer", "--certificate"),
        ("add-anchor", "--certificate"),
        ("taint", "--certificate"),
    ],
)
@pytest.mark.parametrize("content", ["nonsense", "-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_an_error_about_a_file_names_it(
    desk: Desk, tmp_path: Path, words: tuple[str, ...], content: str
) -> None:
    path = tmp_path / "broken.pem"
    path.write_text(content)
    assert str(path) in desk.ca(*words, path, code=1)
