"""Names of pins and the fingerprint of programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InputError
from agent.redirect.layout import (
    CGROUP_HOOKS,
    HOOKS,
    MAPS,
    MAX_PIN_NAME_BYTES,
    NetnsPin,
    PinLayout,
    Ports,
    fingerprint,
)
from agent.redirect.records import MAP_SIZES

SOURCES = {"redirect.c": b"int f;", "maps.h": b""}


class TestNetnsPin:
    @pytest.mark.parametrize("uid", ["", "u" * 300, "\N{EURO SIGN}" * 60])
    def test_refuses(self, uid: str) -> None:
        """A uid that makes no file name is an input error, not the kernel's."""
        with pytest.raises(InputError, match="pod uid"):
            str(NetnsPin(1, uid))

    @pytest.mark.parametrize(
        "name", ["redirect4", "netns-", "netns-7", "netns-7-", "netns-x-web", "7-web"]
    )
    def test_other_names_are_none_of_ours(self, name: str) -> None:
        """The hooks' links lie in the same folder."""
        assert NetnsPin.parse(name) is None

    @given(st.integers(0, 2**64 - 1), st.text(min_size=1, max_size=20))
    def test_is_read_back(self, cookie: int, uid: str) -> None:
        """Any uid becomes a name that bpffs takes, and comes back."""
        try:
            name = str(NetnsPin(cookie, uid))
        except UnicodeEncodeError:  # a lone surrogate
            return

        assert NetnsPin.parse(name) == NetnsPin(cookie, uid)
        assert not set("./\0") & set(name)
        assert len(name.encode()) <= MAX_PIN_NAME_BYTES

    @given(st.text())
    def test_any_name_is_read_or_passed_over(self, name: str) -> None:
        """Whatever lies in the folder, nothing is raised."""
        NetnsPin.parse(name)


class TestPinLayout:
    @pytest.mark.parametrize("root", ["pins", "/sys/fs/bpf/pod.lock", "/"])
    def test_refuses(self, root: str) -> None:
        """What bpffs would refuse later is refused by name now."""
        with pytest.raises(InputError, match="pins"):
            PinLayout(Path(root))

    def test_links_go_first(self) -> None:
        """On removal no hook may call a program that is gone."""
        layout = PinLayout(Path("/sys/fs/bpf/podlock"))

        assert layout.folders[0] == layout.links

    def test_neighbours_are_folders_beside(self) -> None:
        """A set in the making and one on its way out can be renamed in place."""
        layout = PinLayout(Path("/sys/fs/bpf/podlock"))

        assert layout.next.root == Path("/sys/fs/bpf/podlock-next")
        assert layout.old.root == Path("/sys/fs/bpf/podlock-old")

    def test_a_complete_set(self) -> None:
        """Every map, program and cgroup link counts; pods' links do not."""
        expected = PinLayout(Path("/p")).expected()

        assert len(expected) == len(MAPS) + len(HOOKS) + len(CGROUP_HOOKS)


def test_redirection_is_attached_last() -> None:
    """No connection is redirected before its flow is noted and its names are true."""
    assert [hook.name for hook in CGROUP_HOOKS][-2:] == ["redirect4", "redirect6"]


def test_every_map_but_socket_storage_is_user_spaces() -> None:
    """These belong to the programs alone."""
    assert set(MAPS) - set(MAP_SIZES) == {"peers", "here", "probes", "barred"}


class TestFingerprint:
    @pytest.mark.parametrize(
        ("sources", "ports", "inode"),
        [
            (SOURCES | {"redirect.c": b"int g;"}, Ports(), 1),
            (SOURCES | {"more.h": b""}, Ports(), 1),
            ({"redirect.c": b"", "maps.h": b"int f;"}, Ports(), 1),
            (SOURCES, Ports(tunnel=15009), 1),
            (SOURCES, Ports(), 2),
        ],
    )
    def test_differs(self, sources: dict[str, bytes], ports: Ports, inode: int) -> None:
        """Another text, file, port or cgroup makes other programs."""
        assert fingerprint(sources, ports, inode) != fingerprint(SOURCES, Ports(), 1)

    def test_a_fallback_makes_other_programs(self) -> None:
        """The next boot may be another kernel's."""
        with_fallback = fingerprint(SOURCES, Ports(), 1, ["NO_INGRESS_IFINDEX"])
        assert with_fallback != fingerprint(SOURCES, Ports(), 1)

    def test_the_order_of_files_does_not_matter(self) -> None:
        """The same sources are the same, however they were listed."""
        turned = dict(reversed(SOURCES.items()))

        assert fingerprint(turned, Ports(), 1) == fingerprint(SOURCES, Ports(), 1)
        assert len(fingerprint(SOURCES, Ports(), 1)) == 32
