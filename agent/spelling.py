"""The name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(text: str, names: Iterable[str], short: str = "/") -> str | None:
    """
    The one of `names` that is most like `text`, None where none is.

    A name counts by what follows its first `short` too.
    """
    names = list(names)
    known = {name.partition(short)[2] or name: name for name in names}
    known |= {name: name for name in names}
    near = difflib.get_close_matches(text, known, n=1)
    return known[near[0]] if near else None


def did_you_mean(text: str, names: Iterable[str], short: str = "/") -> str:
    """`; do you mean shop/web?` for the nearest of `names`, "" where none is near."""
    found = nearest(text, names, short)
    return f"; do you mean {found}?" if found else ""
