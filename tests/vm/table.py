"""
What was seen on several kernels, side by side.

A cell says native, fallback or refused, each from a run on that kernel; tests and steps
that did not hold are counted as what they are, failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tests.vm.look import Seen

REFUSED: Final = "refused"
NATIVE: Final = "native"
BEGIN: Final = "<!-- ./run kernels --write: from here -->"
END: Final = "<!-- ./run kernels --write: to here -->"

Row = tuple[str, ...]


def rows(seen: Sequence[Seen]) -> Iterator[Row]:
    """The table with its head, a kernel a column."""
    yield ("", *(_title(each) for each in seen))
    for name in _names(dict_of(each) for each in seen):
        yield (name, *(dict_of(each).get(name, REFUSED) for each in seen))
    for name in _names(each.tests for each in seen):
        yield (f"tests/bpf: {name}", *(_tests(each, name) for each in seen))
    for name in _names(each.steps for each in seen):
        yield (f"demo: {name}", *(_step(each, name) for each in seen))
    yield ("load under lockdown=confidentiality", *map(_lockdown, seen))


def dict_of(seen: Seen) -> dict[str, str]:
    """Feature and level."""
    return {name: level for name, level, _ in seen.features}


def _title(seen: Seen) -> str:
    return f"Linux {release(seen.kernel)}, {seen.system}"


def release(kernel: str) -> str:
    """Of 6.1.0-50-cloud-amd64 what tells the kernel and not who built it: 6.1.0-50."""
    found = re.match(r"\d+(\.\d+)*(-\d+)?", kernel)
    return found[0] if found else kernel


def _names(parts: Iterable[Iterable[str]]) -> list[str]:
    """Every name of every part, in the order of the first that has it."""
    return list(dict.fromkeys(name for part in parts for name in part))


def _tests(seen: Seen, name: str) -> str:
    if seen.refusal:
        return REFUSED
    passed, failed = seen.tests.get(name, (0, []))
    if failed:
        return f"{len(failed)} of {passed + len(failed)} failed"
    return f"{NATIVE} ({passed})" if passed else "not run"


def _step(seen: Seen, name: str) -> str:
    if seen.refusal:
        return REFUSED
    if name not in seen.steps:
        return "not run"
    return NATIVE if seen.steps[name] else "failed"


def _lockdown(seen: Seen) -> str:
    if seen.refusal:
        return REFUSED
    if seen.lockdown is None:
        return "not run: only in a virtual machine"
    return NATIVE if seen.lockdown == "loaded" else REFUSED


def is_well(seen: Sequence[Seen]) -> bool:
    """Whether every kernel either works whole or is refused with a reason."""
    return all("failed" not in cell for row in rows(seen) for cell in row[1:])


def notes(seen: Sequence[Seen]) -> Iterator[str]:
    """Under the table: what a kernel said where it is not native, and what failed."""
    for each in seen:
        if each.refusal:
            yield f"Linux {release(each.kernel)}: {each.refusal}"
        for name, level, reason in each.features:
            if level == "fallback":
                yield f"Linux {release(each.kernel)}: {name} is a fallback: {reason}"
        for name, (_, failed) in each.tests.items():
            for test in failed:
                yield f"Linux {release(each.kernel)}: tests/bpf: {name}: {test} failed"


def markdown(seen: Sequence[Seen]) -> str:
    """As ARCHITECTURE.md has it."""
    head, *body = rows(seen)
    lines = [_line(head), _line(("---",) * len(head)), *map(_line, body)]
    told = [f"- {note}" for note in notes(seen)]
    return "\n".join([*lines, *(["", *told] if told else [])])


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def put_into(text: str, table: str) -> str:
    """`text` with the table between its marks. Raises: ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"
