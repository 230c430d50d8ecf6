"""A cell says what was run, and never more than that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vm import table
from tests.vm.look import Seen, count, joined

NEW = Seen(
    kernel="6.1.0",
    system="Debian 12",
    features=[("sk_lookup", "native", ""), ("destroy", "fallback", "not supported")],
    tests={"inbound": (12, [])},
    steps={"web reaches api": True},
    lockdown="loaded",
)
OLD = Seen(
    kernel="5.10.0",
    system="Debian 12",
    features=[("sk_lookup", "refused", "Invalid argument")],
    refusal="this kernel cannot carry the redirect: sk_lookup",
)


def cells(*seen: Seen) -> dict[str, list[str]]:
    return {name: rest for name, *rest in table.rows(seen)}


def test_a_kernel_that_works() -> None:
    """Features by their level, tests by how many there were."""
    found = cells(NEW)
    assert found["sk_lookup"] == ["native"]
    assert found["destroy"] == ["fallback"]
    assert found["tests/bpf: inbound"] == ["native (12)"]
    assert found["demo: web reaches api"] == ["native"]
    assert found["load under lockdown=confidentiality"] == ["native"]
    assert table.is_well([NEW])


def test_a_kernel_that_is_refused() -> None:
    """That is an answer, with the message under the table."""
    found = cells(NEW, OLD)
    assert {row[1] for name, row in found.items() if name} == {"refused"}
    assert table.is_well([NEW, OLD])
    assert any(OLD.refusal in note for note in table.notes([OLD]) if OLD.refusal)


@pytest.mark.parametrize(
    "change",
    [
        {"tests": {"inbound": (11, ["test_x"])}},
        {"steps": {"web reaches api": False}},
    ],
)
def test_what_failed_is_no_fallback(change: dict[str, object]) -> None:
    """It is told as failed, and the whole is not well."""
    assert not table.is_well([replace(NEW, **change)])  # type: ignore[arg-type]


def test_what_was_not_run_is_not_told_as_native() -> None:
    """A step that one kernel's run does not have."""
    found = cells(NEW, replace(NEW, steps={}, tests={}, lockdown=None))
    assert found["demo: web reaches api"][1] == "not run"
    assert found["tests/bpf: inbound"][1] == "not run"
    assert found["load under lockdown=confidentiality"][1].startswith("not run")


def test_parts_of_one_kernel_are_added() -> None:
    """What was run again counts; another kernel begins anew."""
    again = replace(NEW, tests={"inbound": (13, []), "layout": (5, [])}, steps={})
    found = joined(NEW, replace(again, lockdown=None))
    assert found.tests == {"inbound": (13, []), "layout": (5, [])}
    assert (found.steps, found.lockdown) == (NEW.steps, NEW.lockdown)
    assert joined(NEW, OLD) == OLD


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("6.1.0-50-cloud-amd64", "6.1.0-50"),
        ("6.12.117+deb13-cloud-amd64", "6.12.117"),
        ("6.18.44-custom", "6.18.44"),
        ("unnamed", "unnamed"),
    ],
)
def test_a_kernel_is_named_by_its_release(kernel: str, expected: str) -> None:
    """Not by who built it."""
    assert table.release(kernel) == expected


def test_pytest_is_counted_by_file() -> None:
    """Errors and skips are no passes."""
    case = '<testcase classname="tests.bpf.test_{}.TestX" name="{}">{}</testcase>'
    text = "".join(
        (
            case.format("inbound", "a", ""),
            case.format("inbound", "b", "<failure/>"),
            case.format("inbound", "c", "<error/>"),
            case.format("inbound", "d", "<skipped/>"),
            case.format("loader", "e", ""),
        )
    )
    found = count(f"<testsuites><testsuite>{text}</testsuite></testsuites>")
    assert found == {"inbound": (1, ["b", "c", "d"]), "loader": (1, [])}


def test_the_page_keeps_the_rest() -> None:
    """Between the marks and nowhere else; twice is once."""
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    written = table.put_into(page, table.markdown([NEW]))
    assert written.startswith("before\n")
    assert written.endswith("\nafter\n")
    assert "old" not in written
    assert table.put_into(written, table.markdown([NEW])) == written
    with pytest.raises(ValueError, match="kernels"):
        table.put_into("a page", "")
