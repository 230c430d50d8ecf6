"""The mount table is read as proc(5) writes it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.redirect.mounts import (
    Mount,
    cgroup2_root,
    covering,
    parse_mounts,
    process_hierarchies,
)

HYBRID = """\
sysfs /sys sysfs rw,nosuid 0 0
tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
bpf /sys/fs/bpf bpf rw,mode=700 0 0
"""
UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"


class TestParse:
    @given(st.text())
    def test_any_text_is_read(self, text: str) -> None:
        """A line that is none of ours is passed over."""
        for mount in parse_mounts(text):
            assert isinstance(mount, Mount)

    def test_octal_escapes(self) -> None:
        """A space in a path is \\040, a backslash \\134."""
        (mount,) = parse_mounts(r"none /mnt/a\040b\134c tmpfs rw 0 0")

        assert mount == Mount(Path("/mnt/a b\\c"), "tmpfs")


class TestCgroup2Root:
    def test_none_without_cgroup_v2(self) -> None:
        """Version 1 alone does not count."""
        assert cgroup2_root(parse_mounts("cgroup /c/cpu cgroup rw,cpu 0 0")) is None

    def test_hybrid(self) -> None:
        """Beside version 1 it is not where it usually is."""
        root = cgroup2_root(parse_mounts(HYBRID))

        assert root == Path("/sys/fs/cgroup/unified")

    def test_unified(self) -> None:
        """Alone it is the whole of /sys/fs/cgroup."""
        assert cgroup2_root(parse_mounts(UNIFIED)) == Path("/sys/fs/cgroup")


class TestCovering:
    def test_the_deepest_mount(self) -> None:
        """A path belongs to the file system nearest above it."""
        found = covering(Path("/sys/fs/bpf/podlock"), parse_mounts(HYBRID))

        assert found == Mount(Path("/sys/fs/bpf"), "bpf")

    def test_not_by_letters(self) -> None:
        """/sys/fs/bpf2 is not in /sys/fs/bpf."""
        found = covering(Path("/sys/fs/bpf2/x"), parse_mounts(HYBRID))

        assert found == Mount(Path("/sys"), "sysfs")

    def test_the_later_of_two(self) -> None:
        """What is mounted over a mount hides it."""
        table = parse_mounts(HYBRID + "tmpfs /sys/fs/bpf tmpfs rw 0 0\n")

        found = covering(Path("/sys/fs/bpf/podlock"), table)

        assert found == Mount(Path("/sys/fs/bpf"), "tmpfs")

    def test_none_outside(self) -> None:
        """A path under no mount of the table has none."""
        assert covering(Path("/home"), parse_mounts(HYBRID)) is None


class TestProcessHierarchies:
    def test_on_every_kind_of_machine(self) -> None:
        """v2 alone; v1 alone, by those that count; both; v1 without the usual ones."""
        one = "".join(
            f"cgroup /c/{name} cgroup rw 0 0\n" for name in ("cpu", "memory", "pids")
        )
        usual = [Path("/c/memory"), Path("/c/pids")]
        two = Path("/sys/fs/cgroup")
        assert process_hierarchies(parse_mounts(UNIFIED)) == [two]
        assert process_hierarchies(parse_mounts(one)) == usual
        assert process_hierarchies(parse_mounts(one + UNIFIED)) == [two, *usual]
        odd = parse_mounts("cgroup /c/freezer cgroup rw 0 0\n")
        assert process_hierarchies(odd) == [Path("/c/freezer")]
