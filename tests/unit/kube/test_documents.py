"""YAML that Kubernetes would take is read; bombs and puzzles are refused by line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.documents import (
    MAX_FILE_BYTES,
    MAX_NODES,
    InvalidManifest,
    parse_documents,
)

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
TOWER = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} {'[' * 30}*a{n - 1}{']' * 30}\n" for n in range(1, 4)
)


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("a: 1\nb: [", 3, "not valid YAML"),
            ("a: 1\nb: c: d", 2, "not valid YAML"),
            ("a: 1\n\tb: 2", 2, "not valid YAML"),
            ("a: 1\n---\nb: 1\nb: 2", 4, "key 'b' is there twice"),
            ("a: !!python/object:os.system x", 1, "tag"),
            ("a: !!int x", 1, "tag"),
            ("a: !mine x", 1, "tag"),
            ("a: &a [*a]", 1, "alias *a"),
            ("a: *b", 1, "alias *b"),
            ("? [1]\n: 2", 1, "unhashable"),
            ("a: 0b_", 1, "not a value"),
            ("a: " + "1" * 5000, 1, "not a value"),
            ("a: \0", None, "not valid YAML"),
            ("[" * 100_000, 1, "deep"),
            ("{a: " * 100_000, 1, "deep"),
            ("- " * 100, 1, "deep"),
            (BOMB, 6, "with aliases"),
            (TOWER, 4, "deep"),
            pytest.param(
                "[" + "1," * MAX_NODES + "]", 1, "with aliases", marks=pytest.mark.slow
            ),
            ("#" * (MAX_FILE_BYTES + 1), None, "bytes"),
        ],
    )
    def test_with_the_line(self, text: str, line: int | None, message: str) -> None:
        """A person finds the place."""
        with pytest.raises(InvalidManifest) as caught:
            parse_documents(text.encode())

        assert message in str(caught.value)
        assert caught.value.line == line


class TestRead:
    def test_documents_know_their_lines(self) -> None:
        """Counted from 1, at the first line with something in it."""
        found = parse_documents(b"# one\na: 1\n---\n---\n\nb: 2\n")

        assert [(item.line, item.value) for item in found] == [
            (2, {"a": 1}),
            (4, None),
            (6, {"b": 2}),
        ]

    def test_a_date_is_text(self) -> None:
        """creationTimestamp needs no quotes."""
        (found,) = parse_documents(b"at: 2026-01-01T00:00:00Z")

        assert found.value == {"at": "2026-01-01T00:00:00Z"}

    def test_a_modest_alias_is_allowed(self) -> None:
        """Anchors and merge keys are used by people."""
        (found,) = parse_documents(b"a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}")

        assert found.value == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}

    def test_a_merge_that_is_overridden_is_no_second_key(self) -> None:
        """What a mapping merges and then says itself is said once."""
        text = b"b: &b {x: 1}\na: {in: {d: &d {<<: *b, x: 2}}}\nc: {<<: *d, x: 3}"
        (found,) = parse_documents(text)

        assert found.value["a"] == {"in": {"d": {"x": 2}}}
        assert found.value["c"] == {"x": 3}

    @pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
    def test_an_empty_file_is_no_document(self, text: str) -> None:
        """Nothing is there, and nothing is wrong."""
        assert parse_documents(text.encode()) == ()

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text("abc é\n"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text("abc"), inner, max_size=3)
            ),
            max_leaves=8,
        )
    )
    def test_json_is_read_as_json(self, value: object) -> None:
        """YAML is a superset where it matters."""
        (found,) = parse_documents(json.dumps(value, indent=1).encode())

        assert found.value == value

    @given(
        st.binary(max_size=64) | st.text("[]{}:,&*!-?|>'\"#%@ \n\tab<=").map(str.encode)
    )
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        """Nothing but InvalidManifest comes out."""
        try:
            parse_documents(data)
        except InvalidManifest:
            return
