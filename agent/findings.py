"""One thing that was looked at before an agent starts, for a person and as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is "" where it is well."""

    subject: str
    message: str
    advice: str = ""

    @property
    def is_well(self) -> bool:
        return not self.advice
