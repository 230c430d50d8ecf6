"""What was looked at and what is wrong, for a person and as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

# Certificates begin two minutes back, for clocks that differ.
WORST_SKEW: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Finding:
    """Looked at before an agent starts; `advice` is "" where it is well."""

    subject: str
    message: str
    advice: str = ""

    @property
    def is_well(self) -> bool:
        return not self.advice


def judge_clock(whose: str, date: str | None, now: datetime) -> Finding:
    """Our clock beside a server's, by its Date header (RFC 9110 section 6.6.1)."""
    subject = "clock"
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        text = f"{whose} gave no time"
        return Finding(subject, text, "compare this node's clock by hand")
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    skew = abs((now - theirs).total_seconds())
    text = f"{skew:.0f} s from that of {whose}"
    if skew <= WORST_SKEW.total_seconds():
        return Finding(subject, text)
    return Finding(
        subject, text, "set this node's clock (NTP): certificates depend on it"
    )


@dataclass(slots=True)
class Faults:
    """What is wrong with things that only one part sees, files of ours for example."""

    _known: dict[str, str] = field(default_factory=dict)

    def set(self, subject: str, message: str) -> None:
        """It is so until `clear`."""
        self._known[subject] = message

    def clear(self, subject: str) -> None:
        """It is well, or is no more."""
        self._known.pop(subject, None)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(tuple(self._known.items()))
