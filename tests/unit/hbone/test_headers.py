"""CONNECT requests and answers are taken as RFC 9113 writes them, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone.headers import (
    ConnectRequest,
    Fields,
    InvalidHeader,
    MalformedHeaders,
    check_trailers,
    list_bytes,
    parse_request,
    parse_response,
    printable_reason,
    request_fields,
    response_fields,
)

METHOD = (b":method", b"CONNECT")
AUTHORITY = (b":authority", b"10.0.0.1:80")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

names = st.sampled_from(
    [b":method", b":authority", b":status", b":path", b"te", b"forwarded", b"X", b""]
) | st.binary(max_size=12)


class TestParseRequest:
    def test_reads_all_of_hbone(self) -> None:
        """Known headers come out, unknown ones are ignored."""
        request = ConnectRequest(
            "[2001:db8::1]:80", 'for="10.0.0.9:4711"', "k8s.pod.name=web", TRACE
        )
        unknown = (b"x-forwarded-network", b"east")

        assert parse_request([*request_fields(request), unknown]) == request

    @pytest.mark.parametrize(
        "fields",
        [
            [],
            [METHOD],
            [AUTHORITY],
            [(b":method", b"GET"), AUTHORITY],
            [(b":method", b"connect"), AUTHORITY],
            [METHOD, AUTHORITY, (b":path", b"/")],
            [METHOD, AUTHORITY, (b":scheme", b"https")],
            [METHOD, AUTHORITY, (b":protocol", b"websocket")],
            [METHOD, AUTHORITY, (b":status", b"200")],
            [METHOD, METHOD, AUTHORITY],
            [METHOD, AUTHORITY, AUTHORITY],
            [(b"baggage", b"a=b"), METHOD, AUTHORITY],
            [METHOD, (b"baggage", b"a=b"), AUTHORITY],
            [METHOD, AUTHORITY, (b"Baggage", b"a=b")],
            [METHOD, AUTHORITY, (b"", b"a")],
            [METHOD, AUTHORITY, (b"a b", b"a")],
            [METHOD, AUTHORITY, (b"a:b", b"a")],
            [METHOD, AUTHORITY, (b"connection", b"close")],
            [METHOD, AUTHORITY, (b"proxy-connection", b"close")],
            [METHOD, AUTHORITY, (b"keep-alive", b"1")],
            [METHOD, AUTHORITY, (b"transfer-encoding", b"chunked")],
            [METHOD, AUTHORITY, (b"upgrade", b"h2c")],
            [METHOD, AUTHORITY, (b"te", b"gzip")],
            [METHOD, AUTHORITY, (b"content-length", b"5")],
            [METHOD, AUTHORITY, (b"host", b"10.0.0.2:80")],
            [METHOD, AUTHORITY, (b"a", b"b\r\nc: d")],
            [METHOD, AUTHORITY, (b"a", b"b\0")],
            [METHOD, AUTHORITY, (b"a", b" b")],
            [METHOD, AUTHORITY, (b"a", b"b\t")],
        ],
    )
    def test_refuses(self, fields: Fields) -> None:
        """Sections 8.2, 8.3.1 and 8.5: each of these is malformed."""
        with pytest.raises(MalformedHeaders):
            parse_request(fields)

    @pytest.mark.parametrize(
        "authority",
        [
            b"",
            b"10.0.0.1",
            b"10.0.0.1:",
            b":80",
            b"10.0.0.1:0",
            b"10.0.0.1:65536",
            b"10.0.0.1:+80",
            b"2001:db8::1:80",
            b"[2001:db8::1]",
            b"user@10.0.0.1:80",
            b"10.0.0.1:80/",
            b"a" * 256 + b":80",
        ],
    )
    def test_refuses_an_authority(self, authority: bytes) -> None:
        """RFC 9110 section 9.3.6: a host and a port, nothing else."""
        with pytest.raises(MalformedHeaders, match=":authority"):
            parse_request([METHOD, (b":authority", authority)])

    def test_a_repeated_header_is_a_list(self) -> None:
        """RFC 9110 section 5.3; what two `forwarded` mean is for its own parser."""
        request = parse_request(
            [METHOD, AUTHORITY, (b"baggage", b"a=1"), (b"baggage", b"b=2")]
        )

        assert request.baggage == "a=1,b=2"

    @pytest.mark.parametrize("values", [["xx"], [TRACE, TRACE], [TRACE.upper()]])
    def test_a_strange_traceparent_is_dropped(self, values: list[str]) -> None:
        """W3C Trace Context: the trace starts anew, the request is good."""
        fields = [(b"traceparent", value.encode()) for value in values]

        assert parse_request([METHOD, AUTHORITY, *fields]).traceparent is None

    @given(st.lists(st.tuples(names, st.binary(max_size=20)), max_size=6))
    def test_any_fields(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Nothing but MalformedHeaders comes out."""
        for parse in (parse_request, parse_response, check_trailers):
            try:
                parse(fields)
            except MalformedHeaders:
                continue


class TestParseResponse:
    def test_reads_status_and_headers(self) -> None:
        """In the order they came."""
        fields = [(b":status", b"503"), (b"reason", b"no route"), (b"a", b"b")]

        assert parse_response(fields) == (503, (("reason", "no route"), ("a", "b")))

    @pytest.mark.parametrize(
        "status", [b"", b"20", b"2000", b"abc", b"099", b"600", b"101", b"+20"]
    )
    def test_refuses_a_status(self, status: bytes) -> None:
        """Three digits in the known classes; 101 is not of HTTP/2 (section 8.6)."""
        with pytest.raises(MalformedHeaders):
            parse_response([(b":status", status)])

    def test_refuses_a_request_in_its_place(self) -> None:
        """Section 8.3: request pseudo-headers MUST NOT be in a response."""
        with pytest.raises(MalformedHeaders):
            parse_response([(b":status", b"200"), METHOD])


class TestTrailers:
    def test_have_no_pseudo_headers(self) -> None:
        """Section 8.1."""
        check_trailers([(b"a", b"b")])
        with pytest.raises(MalformedHeaders):
            check_trailers([(b":status", b"200")])


class TestOurs:
    @pytest.mark.parametrize(
        "request_",
        [
            ConnectRequest("10.0.0.1"),
            ConnectRequest("10.0.0.1:80", baggage="a\r\nevil: 1"),
            ConnectRequest("10.0.0.1:80", forwarded="for=☃"),
            ConnectRequest("10.0.0.1:80", traceparent=" 00"),
        ],
    )
    def test_a_bad_value_is_not_sent(self, request_: ConnectRequest) -> None:
        """A name from the cluster cannot smuggle a header."""
        with pytest.raises(InvalidHeader):
            request_fields(request_)

    @pytest.mark.parametrize("name", ["Reason", "", ":status", "connection", "a b"])
    def test_a_bad_name_is_not_sent(self, name: str) -> None:
        """Nor can a header of an answer be one that the peer must refuse."""
        with pytest.raises(InvalidHeader):
            response_fields(200, [(name, "x")])

    def test_what_differs_each_time_stays_out_of_the_table(self) -> None:
        """`baggage` is worth remembering for the peer, `forwarded` is not."""
        request = ConnectRequest("10.0.0.1:80", "for=a", "k=v", TRACE)
        indexed = [f[0] for f in request_fields(request) if f.indexable]

        assert indexed == [b":method", b"baggage"]

    def test_the_size_of_a_list(self) -> None:
        """RFC 9113 section 6.5.2: 32 bytes on top for each field."""
        assert list_bytes([(b"abc", b"de"), (b"f", b"")]) == 5 + 1 + 64

    @given(st.text(max_size=400))
    def test_any_reason_can_be_told(self, reason: str) -> None:
        """Whatever a policy's name holds, the header that tells it is legal."""
        legible = printable_reason(reason)

        assert parse_response(response_fields(401, [("reason", legible)]))[0] == 401
        assert len(legible) <= 256
