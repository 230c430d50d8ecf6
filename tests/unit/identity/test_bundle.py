"""A bundle is a set of trust anchors; how its file is written does not matter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.bundle import Bundle, InvalidBundle
from agent.identity.spiffe import TrustDomain
from tests.unit.identity.parts import (
    API,
    TD,
    anchor_at,
    authority_under,
    certificate,
    credential_for,
    ders,
    key_usage,
)

OLD, NEW = anchor_at(serial=0x1), anchor_at(serial=0x2)
BOTH = OLD.certificate_pem + NEW.certificate_pem


class TestParse:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"", "no trust anchor"),
            (b"\n\n", "no trust anchor"),
            (OLD.certificate_pem + b"-- old --\n" + NEW.certificate_pem, "PEM line"),
            (OLD.key.pem, "expected CERTIFICATE, found PRIVATE KEY"),
            (OLD.certificate_pem.replace(b"M", b"A", 1), "certificate 1: certificate:"),
        ],
    )
    def test_refuses(self, text: bytes, message: str) -> None:
        """What is not a set of certificates leaves the last good bundle in force."""
        with pytest.raises(InvalidBundle, match=message):
            Bundle.parse(TD, text)

    def test_refuses_a_leaf(self) -> None:
        """A workload's certificate is not an anchor; the message says which one."""
        (anchor,) = ders(OLD.certificate_pem)
        with pytest.raises(InvalidBundle, match=r"certificate 2: .*CA:TRUE"):
            Bundle.of(TD, [anchor, certificate()])

    def test_refuses_another_trust_domain(self) -> None:
        """An anchor that names its realm cannot slip into another's bundle."""
        with pytest.raises(InvalidBundle, match=r"for trust domain cluster\.local"):
            Bundle.parse(TrustDomain("other"), OLD.certificate_pem)

    def test_refuses_a_key_that_nobody_can_read(self) -> None:
        """An anchor with an unknown kind of key could never verify anything."""
        (anchor,) = ders(OLD.certificate_pem)
        ec_public_key = bytes.fromhex("2a8648ce3d0201")
        assert ec_public_key in anchor
        with pytest.raises(InvalidBundle, match=r"certificate 1: .*kind"):
            Bundle.of(TD, [anchor.replace(ec_public_key, bytes(7))])

    def test_takes_an_anchor_made_elsewhere(self) -> None:
        """A CA without a SPIFFE ID can be anybody's anchor."""
        der = certificate([], ca=True, usage=key_usage(cert_sign=True), roles=None)

        assert len(Bundle.of(TD, [der]).anchors) == 1

    @given(st.binary())
    def test_any_bytes_are_refused(self, text: bytes) -> None:
        """Nothing but InvalidBundle comes out of noise."""
        with pytest.raises(InvalidBundle):
            Bundle.parse(TD, text)


class TestEquality:
    def test_ignores_how_it_is_written(self) -> None:
        """Newlines, order and copies make no other bundle (linkerd2#3880)."""
        anchors = [OLD.certificate_pem, NEW.certificate_pem + b"\n\n", BOTH]
        shuffled = random.Random(1).sample(anchors, len(anchors))

        one = Bundle.parse(TD, BOTH)
        other = Bundle.parse(TD, b"\n".join(shuffled).replace(b"\n", b"\r\n"))
        turned = Bundle.parse(TD, NEW.certificate_pem + OLD.certificate_pem)
        assert one == other == turned
        assert one.pem == other.pem == turned.pem
        assert Bundle.parse(TD, one.pem) == one
        assert len(one.anchors) == 2

    def test_sees_one_anchor_more(self) -> None:
        """A new anchor is a new bundle."""
        assert Bundle.parse(TD, BOTH) != Bundle.parse(TD, OLD.certificate_pem)


class TestAnchorOf:
    def test_tells_under_which_anchor_a_workload_is(self) -> None:
        """With old and new side by side, each chain ends in its own."""
        bundle = Bundle.parse(TD, BOTH)
        for pair in (OLD, NEW):
            chain = credential_for(authority_under(pair), API).chain_der
            found = bundle.anchor_of(chain)
            assert found is not None
            assert (found.der,) == ders(pair.certificate_pem)
            # A chain that brings its anchor along ends there too.
            assert bundle.anchor_of([*chain, found.der]) == found

    def test_knows_no_stranger(self) -> None:
        """Another authority of the same names is not ours: signatures count."""
        stranger = authority_under(anchor_at(serial=0x1))
        chain = credential_for(stranger, API).chain_der

        assert Bundle.parse(TD, BOTH).anchor_of(chain) is None

    def test_needs_every_link(self) -> None:
        """A missing or foreign intermediate breaks the chain."""
        bundle = Bundle.parse(TD, BOTH)
        ours = credential_for(authority_under(OLD), API).chain_der
        stranger = credential_for(authority_under(anchor_at()), API).chain_der

        assert bundle.anchor_of(ours[:1]) is None
        assert bundle.anchor_of([stranger[0], ours[1]]) is None
        assert bundle.anchor_of([]) is None
