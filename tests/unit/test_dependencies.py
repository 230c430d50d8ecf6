"""A dependency is known by its last contact, and by the failures since."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.dependencies import MAX_REASON, Dependencies, Dependency


def test_what_was_never_asked_is_unknown() -> None:
    assert Dependency("identity service", "https://id").state == "unknown"


def test_an_outage_has_its_beginning_and_the_last_reason() -> None:
    times = iter([100.0, 110.0, 130.0])
    service = Dependency("identity service", "https://id", lambda: next(times))
    service.heard()
    service.failed("refused")
    service.failed("no answer\nat all")
    assert service.state == "unreachable"
    assert (service.last_contact, service.failing_since) == (100.0, 110.0)
    assert (service.why, service.attempts) == ("no answer", 2)
    service.heard()
    assert (service.state, service.last_contact) == ("reachable", 130.0)
    assert (service.failing_since, service.why, service.attempts) == (None, None, 0)


@given(st.lists(st.one_of(st.none(), st.text())))
def test_the_last_word_counts(words: list[str | None]) -> None:
    service = Dependency("k", "n", lambda: 1.0)
    for word in words:
        if word is None:
            service.heard()
        else:
            service.failed(word)
            assert service.why
            assert len(service.why) <= MAX_REASON
    expected = "unknown" if not words else "reachable"
    if words and words[-1] is not None:
        expected = "unreachable"
    assert service.state == expected


def test_one_of_each_name() -> None:
    known = Dependencies()
    assert known.of("k", "a") is known.of("k", "a")
    known.of("k", "b")
    assert [each.name for each in known] == ["a", "b"]
    known.forget("k", "a")
    known.forget("k", "a")
    assert [each.name for each in known] == ["b"]
