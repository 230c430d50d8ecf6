"""A request gets what it asked for, or is told what it could ask."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.status.ledger import ConnectionLedger
from agent.status.routes import BadRequest, Query, parse, paths, select

from .samples import closed, opened, refused, workloads


class TestRefused:
    @pytest.mark.parametrize(
        ("method", "path", "query", "status", "complaint"),
        [
            ("POST", "/v1/status", "", 405, "only GET"),
            ("GET", "/v1", "", 404, "/v1/status, /v1/workloads"),
            ("GET", "/v1/status/", "", 404, "no such path"),
            ("GET", "/v1/../v1/status", "", 404, "no such path"),
            ("GET", "/v1/status", "node=a", 400, "there are: none"),
            ("GET", "/v1/connections", "outcom=open", 400, "outcome"),
            ("GET", "/v1/connections", "outcome=opened", 400, "expected one of open"),
            ("GET", "/v1/connections", "outcome=", 400, "expected one of open"),
            ("GET", "/v1/events", "kind=a&" * 50, 400, "query"),
        ],
    )
    def test_says_what_there_is(
        self, method: str, path: str, query: str, status: int, complaint: str
    ) -> None:
        """A mistake is an HTTP status and a sentence, never an unfiltered answer."""
        with pytest.raises(BadRequest) as error:
            parse(method, path, query)

        assert error.value.status == status
        assert complaint in str(error.value)

    @given(st.text(), st.text(), st.text())
    def test_any_request_is_read_or_refused(self, method: str, a: str, b: str) -> None:
        """Nothing but BadRequest comes out of a request line."""
        for request in ((method, a, b), ("GET", "/v1/events", b)):
            try:
                assert isinstance(parse(*request), Query)
            except BadRequest:
                continue


class TestSelect:
    def test_connections_by_either_end(self) -> None:
        """`workload` finds a connection whichever end it is at."""
        found = self.connections("workload=shop%2Fweb")

        assert [each["id"] for each in found["open"]] == ["0-1"]
        assert [each["id"] for each in found["recent"]] == ["0-3"]

    def test_filters_are_anded(self) -> None:
        """Two filters accept what each of them accepts."""
        found = self.connections("workload=shop/api&outcome=refused")

        assert found["open"] == []
        assert [each["id"] for each in found["recent"]] == ["0-2"]

    def test_the_rest_of_a_document_stays(self) -> None:
        """Counts are of the agent, not of the filter."""
        assert self.connections("direction=inbound")["counts"]["closed"] == 1

    def test_workloads_by_name_and_state(self) -> None:
        """A workload is named `namespace/name`, as everywhere."""
        for text in ("workload=shop/api", "state=refused"):
            query = parse("GET", "/v1/workloads", text)
            (found,) = select(query, workloads())["workloads"]
            assert found["name"] == "api"

    def test_what_was_kept_is_counted(self) -> None:
        """Both lists of a document together."""
        found = self.connections("workload=web")

        assert found["filtered"] == {"shown": 2, "of": 3, "unknown": []}

    def test_one_filter_twice(self) -> None:
        """Either value is accepted."""
        query = parse("GET", "/v1/workloads", "workload=web&workload=api")

        assert select(query, workloads())["filtered"]["shown"] == 2

    def test_no_filter_is_everything(self) -> None:
        """Without a query the document is whole."""
        query = parse("GET", "/v1/workloads", "")
        assert select(query, workloads()) == workloads()

    @staticmethod
    def connections(text: str) -> dict[str, Any]:
        ledger = ConnectionLedger()
        for message in (opened(), refused(), opened("0-3"), closed("0-3")):
            ledger.apply(message)
        query = parse("GET", "/v1/connections", text)
        return select(query, cast("dict[str, Any]", ledger.document()))


def test_the_root_lists_the_paths() -> None:
    """`/` is answered with every path and its filters."""
    assert parse("GET", "/", "").name is None
    assert paths()["/v1/connections"] == [
        "workload",
        "identity",
        "outcome",
        "direction",
        "path",
    ]
