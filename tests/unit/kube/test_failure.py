"""What the API server's no means, and how long nobody asks again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.failure import (
    LONGEST_PAUSE_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    Failure,
    FailureKind,
    failure_of,
    pause_seconds,
)
from agent.recovery import interval


def status(code: int, **fields: object) -> bytes:
    return json.dumps({"kind": "Status", "code": code, **fields}).encode()


class TestKinds:
    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (401, FailureKind.UNAUTHORIZED),
            (403, FailureKind.FORBIDDEN),
            (404, FailureKind.ABSENT),
            (409, FailureKind.CONFLICT),
            (410, FailureKind.EXPIRED),
            (429, FailureKind.THROTTLED),
            (422, FailureKind.INVALID),
            (400, FailureKind.REFUSED),
            (500, FailureKind.AWAY),
            (503, FailureKind.AWAY),
        ],
    )
    def test_by_code(self, code: int, kind: FailureKind) -> None:
        """Each code that an API server uses, and the message in its Status."""
        failure = failure_of(code, status(code, message="why"))
        assert (failure.kind, failure.message) == (kind, f"why ({code})")

    @pytest.mark.parametrize(
        "told",
        [
            {"message": "Timeout: Too large resource version: 9, current: 3"},
            {"details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}},
        ],
    )
    def test_a_server_that_is_behind(self, told: dict[str, object]) -> None:
        """504 with this message or cause is neither a timeout nor an outage."""
        assert failure_of(504, status(504, **told)).kind is FailureKind.AHEAD

    @pytest.mark.parametrize("body", [b"", b"404 page not found\n", b"\xff[", b"[]"])
    def test_a_body_that_is_no_status(self, body: bytes) -> None:
        """Proxies and muxes answer in their own words."""
        assert failure_of(404, body).kind is FailureKind.ABSENT

    def test_an_enormous_message_is_cut(self) -> None:
        """What is kept for people to read has a limit."""
        assert len(failure_of(403, status(403, message="x" * 10_000)).message) < 400

    @given(st.binary(), st.integers(400, 599))
    def test_any_body(self, body: bytes, code: int) -> None:
        """Nothing that a server answers raises."""
        assert isinstance(failure_of(code, body, body.decode("latin-1")), Failure)


class TestRetryAfter:
    def test_the_header_and_the_status(self) -> None:
        """Either tells; the header is nearer to who throttles."""
        body = status(429, details={"retryAfterSeconds": 5})
        assert failure_of(429, body).retry_after_seconds == 5
        assert failure_of(429, body, "7").retry_after_seconds == 7

    def test_a_number_beyond_all_bounds(self) -> None:
        """Is a day, and not an error."""
        body = b'{"details": {"retryAfterSeconds": 1%s}}' % (b"0" * 17)
        assert failure_of(429, body).retry_after_seconds == 86_400

    @pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "²"])
    def test_a_header_that_is_no_number(self, text: str) -> None:
        """Then our own pause counts."""
        assert failure_of(429, b"", text).retry_after_seconds is None

    def test_503_with_a_time_is_throttling(self) -> None:
        """An API server that shuts down says when to come back."""
        assert failure_of(503, b"", "1").kind is FailureKind.THROTTLED


class TestPauses:
    FORBIDDEN = Failure(FailureKind.FORBIDDEN, "no role")

    def test_grow_and_are_bounded(self) -> None:
        """Half a second, doubling, and no more than eight seconds."""
        pauses = [pause_seconds(self.FORBIDDEN, attempt, 1.0) for attempt in range(10)]
        assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
        assert max(pauses) == LONGEST_PAUSE_SECONDS

    def test_are_spread(self) -> None:
        """Agents that lost the server together do not come back together."""
        assert pause_seconds(self.FORBIDDEN, 9, 0.0) == LONGEST_PAUSE_SECONDS / 2

    def test_without_an_answer_as_for_every_dependency(self) -> None:
        """But not earlier than a server said that shuts down."""
        away = Failure(FailureKind.AWAY, "connection refused")
        assert [pause_seconds(away, n, 0.3) for n in range(9)] == [
            interval(n, 0.3) for n in range(9)
        ]
        assert pause_seconds(Failure(FailureKind.AWAY, "", 40.0), 9, 0.0) == 40.0

    def test_the_server_asks_for_more(self) -> None:
        """Never earlier than it says; never longer than anybody would wait."""
        busy = Failure(FailureKind.THROTTLED, "", 40.0)
        assert pause_seconds(busy, 0, 0.0) == 40.0
        assert pause_seconds(busy, 0, 1.0) == 50.0
        never = Failure(FailureKind.THROTTLED, "", 1e9)
        assert pause_seconds(never, 0, 0.0) == LONGEST_RETRY_AFTER_SECONDS

    def test_a_forgotten_version_is_asked_anew_at_once(self) -> None:
        """The first time; a server that forgets every version gets a pause, too."""
        gone = Failure(FailureKind.EXPIRED, "")
        assert pause_seconds(gone, 0, 0.0) == 0.0
        assert pause_seconds(gone, 5, 0.0) == LONGEST_PAUSE_SECONDS / 2

    def test_what_is_not_installed_is_looked_for_slowly(self) -> None:
        """A cluster without Linkerd's policies is not asked for them all day."""
        assert pause_seconds(Failure(FailureKind.ABSENT, ""), 0, 0.0) == 30.0

    @pytest.mark.parametrize("jitter", [-0.1, 1.1])
    def test_chance_is_between_0_and_1(self, jitter: float) -> None:
        """Anything else is a mistake of ours."""
        with pytest.raises(ValueError, match="jitter"):
            pause_seconds(self.FORBIDDEN, 0, jitter)
