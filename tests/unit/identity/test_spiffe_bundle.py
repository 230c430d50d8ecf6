"""A bundle document says which anchors a trust domain has, and nothing is guessed."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.bundle import Bundle, InvalidBundle
from agent.identity.spiffe import TrustDomain
from agent.identity.spiffe_bundle import (
    DEFAULT_REFRESH,
    MAX_DOCUMENT_BYTES,
    SpiffeBundle,
    format_document,
    parse,
    published,
)
from agent.identity.trust import Trust
from tests.unit.identity.parts import TD, anchor_at, certificate, ders, key_usage

OLD, NEW = (ders(anchor_at(serial=serial).certificate_pem)[0] for serial in (1, 2))
BUNDLE = Bundle.of(TD, [OLD, NEW])
TOLD = SpiffeBundle(BUNDLE, 7, timedelta(minutes=10))
ALL = frozenset(anchor.fingerprint for anchor in BUNDLE.anchors)
Json = dict[str, Any]


def document(change: Callable[[Json], object] | None = None) -> bytes:
    """The document of TOLD, changed."""
    read: Json = json.loads(format_document(TOLD))
    if change is not None:
        change(read)
    return json.dumps(read).encode()


class TestFormat:
    def test_has_the_members_of_the_standard(self) -> None:
        """kty, use and x5c for each anchor, no kid; sequence and hint are integers."""
        read = json.loads(format_document(TOLD))

        assert (read["spiffe_sequence"], read["spiffe_refresh_hint"]) == (7, 600)
        assert {base64.b64decode(key["x5c"][0]) for key in read["keys"]} == {OLD, NEW}
        for key in read["keys"]:
            assert set(key) == {"kty", "use", "crv", "x", "y", "x5c"}
            assert (key["kty"], key["use"], key["crv"]) == ("EC", "x509-svid", "P-256")

    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP384R1()),
            rsa.generate_private_key(65537, 2048),
            ed25519.Ed25519PrivateKey.generate(),
        ],
    )
    def test_comes_back(
        self,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    ) -> None:
        """Anchors of every kind survive the way out and in."""
        usage = key_usage(signature=False, cert_sign=True)
        made = certificate([], key=key, ca=True, usage=usage, roles=None)
        told = SpiffeBundle(Bundle.of(TD, [OLD, made]), 1, timedelta(hours=1))
        assert parse(TD, format_document(told)) == told

    def test_without_sequence_and_hint(self) -> None:
        """They may be missing, and then they are."""
        told = SpiffeBundle(BUNDLE)
        assert "spiffe" not in format_document(told).decode().replace("svid", "")
        assert parse(TD, format_document(told)) == told


class TestPublished:
    def test_what_others_shall_know(self) -> None:
        """The version is the sequence; a tainted anchor is nobody's anchor any more."""
        tainted = BUNDLE.anchors[0].fingerprint
        told = published(Trust(9, BUNDLE, frozenset({tainted})))

        assert [each.fingerprint for each in told.bundle.anchors] == [
            BUNDLE.anchors[1].fingerprint
        ]
        assert (told.sequence, told.refresh_hint) == (9, DEFAULT_REFRESH)

    def test_nothing_left(self) -> None:
        """A domain without a good anchor has nothing to publish."""
        with pytest.raises(InvalidBundle, match="no trust anchor"):
            published(
                Trust(9, BUNDLE, frozenset(a.fingerprint for a in BUNDLE.anchors))
            )


class TestParse:
    @pytest.mark.parametrize(
        "other",
        [
            {"kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256"},
            {"kty": "EC", "use": "X509-SVID", "x5c": ["AA=="]},
            {"kty": "PQ", "use": "x509-svid", "x5c": ["AA=="]},
            {"use": "x509-svid", "x5c": ["AA=="]},
            {"kty": "EC", "use": "x509-svid"},
            {"kty": "EC", "use": "x509-svid", "x5c": []},
            {},
        ],
    )
    def test_passes_over_what_the_standard_says(self, other: Json) -> None:
        """Unknown uses and kinds, and elements without a certificate."""
        assert parse(TD, document(lambda read: read["keys"].append(other))) == TOLD

    def test_ignores_all_but_the_first_certificate(self) -> None:
        """X509-SVID 6.2: even where the second is nonsense."""
        changed = document(lambda read: read["keys"][0]["x5c"].append("nonsense"))
        assert parse(TD, changed) == TOLD

    def test_ignores_members_of_its_own(self) -> None:
        """Parameters that the standard does not define may be there."""
        assert parse(TD, document(lambda read: read.update(vendor=1))) == TOLD

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda d: d.pop("keys"), "keys"),
            (lambda d: d.update(keys={}), "keys"),
            (lambda d: d.update(keys=[]), "no element"),
            (lambda d: d.update(keys=[1]), "keys"),
            (lambda d: d.update(spiffe_sequence=-1), "spiffe_sequence"),
            (lambda d: d.update(spiffe_sequence="7"), "spiffe_sequence"),
            (lambda d: d.update(spiffe_refresh_hint=1.5), "spiffe_refresh_hint"),
            (lambda d: d["keys"][0].update(x5c="AA=="), "element 1: x5c"),
            (lambda d: d["keys"][1].update(x5c=[1]), "element 2: x5c"),
            (lambda d: d["keys"][0].update(x5c=["?"]), "element 1: x5c"),
            (lambda d: d["keys"][0].update(x5c=["é"]), "element 1: x5c"),
            (lambda d: d["keys"][0].update(x5c=["AA=="]), "element 1: certificate"),
            (lambda d: d["keys"][0].update(x="AA"), "element 1: x: not that of"),
            (lambda d: d["keys"][0].pop("y"), "element 1: y: not that of"),
            (lambda d: d["keys"][0].update(kty="RSA"), "element 1: kty: not that of"),
        ],
    )
    def test_refuses(self, change: Callable[[Json], object], told: str) -> None:
        """The message names the element and what is wrong with it."""
        with pytest.raises(InvalidBundle, match=told):
            parse(TD, document(change))

    def test_refuses_a_certificate_that_is_no_ca(self) -> None:
        """A workload's certificate is nobody's anchor."""
        leaf = base64.b64encode(certificate()).decode()
        with pytest.raises(InvalidBundle, match="CA:TRUE"):
            parse(TD, document(lambda read: read["keys"][0].update(x5c=[leaf])))

    def test_refuses_another_domains_anchor(self) -> None:
        """Whoever mistakes one domain's document for another's hears of it."""
        with pytest.raises(InvalidBundle, match=r"is for trust domain cluster\.local"):
            parse(TrustDomain("partner.example"), document())

    def test_refuses_a_large_one_unread(self) -> None:
        """The limit comes before the parser."""
        with pytest.raises(InvalidBundle, match="more than"):
            parse(TD, b" " * (MAX_DOCUMENT_BYTES + 1))

    def test_refuses_depth(self) -> None:
        """Nesting ends in our error and not in the interpreter's."""
        with pytest.raises(InvalidBundle):
            parse(TD, b'{"keys":' + b"[" * 100_000)

    @given(st.binary())
    def test_any_bytes_are_refused(self, noise: bytes) -> None:
        """Nothing but InvalidBundle comes out of noise."""
        with pytest.raises(InvalidBundle):
            parse(TD, noise)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
        st.sampled_from(["keys", "spiffe_sequence", "spiffe_refresh_hint"]),
        st.sampled_from(["kty", "use", "crv", "x", "y", "x5c"]),
    )
    def test_any_json_is_refused_or_understood(
        self, value: object, member: str, inner: str
    ) -> None:
        """Any value anywhere: a bundle or InvalidBundle."""
        for change in (
            lambda read: read.update({member: value}),
            lambda read: read["keys"][0].update({inner: value}),
            lambda read: read["keys"].append(value),
        ):
            with contextlib.suppress(InvalidBundle):
                assert parse(TD, document(change)).bundle.anchors
