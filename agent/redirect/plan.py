"""What has to change so that what is there becomes what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Difference(Generic[K, V]):
    """Puts come before deletes: what is meshed is never for a moment unmeshed."""

    puts: Mapping[K, V]
    deletes: tuple[K, ...]

    def __bool__(self) -> bool:
        return bool(self.puts or self.deletes)


def difference(wanted: Mapping[K, V], present: Mapping[K, V]) -> Difference[K, V]:
    """The least puts and deletes that turn `present` into `wanted`, in their order."""
    return Difference(
        puts={
            key: value
            for key, value in wanted.items()
            if key not in present or present[key] != value
        },
        deletes=tuple(key for key in present if key not in wanted),
    )
