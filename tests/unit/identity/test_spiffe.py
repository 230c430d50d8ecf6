"""SPIFFE IDs are accepted exactly as the standard writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain


class TestParse:
    def test_reads_a_service_account(self) -> None:
        """A Kubernetes identity tells its namespace and ServiceAccount."""
        web = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")

        assert web == SpiffeId.for_workload(TrustDomain("cluster.local"), "shop", "web")
        assert (web.namespace, web.service_account) == ("shop", "web")

    def test_keeps_the_case_of_the_path(self) -> None:
        """Two paths that differ in case are two workloads (SPIFFE-ID 2.2)."""
        assert SpiffeId.parse("spiffe://td/A") != SpiffeId.parse("spiffe://td/a")

    def test_a_path_of_another_shape_has_no_service_account(self) -> None:
        """A VM's identity is not mistaken for a ServiceAccount's."""
        assert SpiffeId.parse("spiffe://td/vm/ns/db").namespace is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "http://td/a",
            "SPIFFE://td/a",
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///ns/a/sa/b",
            "spiffe://td//sa/b",
            "spiffe://td/ns/a/",
            "spiffe://td/./a",
            "spiffe://td/../a",
            "spiffe://TD/a",
            "spiffe://td:443/a",
            "spiffe://user@td/a",
            "spiffe://td/a?q",
            "spiffe://td/a#f",
            "spiffe://td/a%2Fb",
            "spiffe://td/ä",
            "spiffe://td/a\n",
            "spiffe://" + "t" * 256 + "/a",
            "spiffe://td/" + "a" * 2048,
        ],
    )
    def test_refuses(self, text: str) -> None:
        """What the standard does not allow is not an identity."""
        with pytest.raises(InvalidSpiffeId):
            SpiffeId.parse(text)

    @given(st.text())
    def test_any_text_is_read_back_or_refused(self, text: str) -> None:
        """Nothing but InvalidSpiffeId comes out, and what is accepted round-trips."""
        try:
            accepted = SpiffeId.parse(text)
        except InvalidSpiffeId:
            return
        assert str(accepted) == text
