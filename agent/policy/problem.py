"""What is wrong with an object that a person gave us, for a person to act on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """
    One finding; the object is refused, or used in the stricter way it can be read.

    `object` is its kind and name, after the file and line where it has one:
    "shop.yaml:12: Server shop/api". `field` is a path in it, "" for the whole.
    """

    object: str
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.object}: {self.field}" if self.field else self.object
        return f"{place}: {self.message}"
