"""A captured pod is marked, one that left is not, one that waits stays as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.kube.marks import Mark, differences, event_document
from agent.workload.model import TUNNEL_MARK, Workload
from tests.unit.workload.samples import pod

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LABELS = {TUNNEL_MARK: "hbone"}


def plain() -> Workload:
    return pod("shop/web", "10.1.0.1", uid="u")


def marked() -> Workload:
    return replace(plain(), marked=True, labels=LABELS)


def changes(item: Workload, *, captured: bool, wanted: bool) -> list[bool]:
    told = differences([item], {"u"} if captured else set(), {"u"} if wanted else set())
    return [mark.on for mark in told]


class TestDifferences:
    def test_a_captured_pod_gets_the_mark(self) -> None:
        """Also where one half of it is missing: a person took it off."""
        assert changes(plain(), captured=True, wanted=True) == [True]
        for half in (replace(marked(), marked=False), replace(marked(), labels={})):
            assert changes(half, captured=True, wanted=True) == [True]
        assert changes(marked(), captured=True, wanted=True) == []

    def test_one_that_left_loses_it(self) -> None:
        """Also one that an earlier agent had marked, and half a mark."""
        assert changes(marked(), captured=False, wanted=False) == [False]
        half = replace(marked(), marked=False)
        assert changes(half, captured=False, wanted=False) == [False]
        assert changes(plain(), captured=False, wanted=False) == []

    @pytest.mark.parametrize("item", [plain(), marked()])
    def test_one_that_waits_keeps_what_it_has(self, item: Workload) -> None:
        """Marked by an earlier agent it is in the mesh, refused; never in plaintext."""
        assert changes(item, captured=False, wanted=True) == []


class TestMark:
    def test_is_for_this_pod_alone(self) -> None:
        """By uid: another pod of its name is not touched."""
        mark = Mark("shop", "web", "u", on=True)
        assert mark.path == "/api/v1/namespaces/shop/pods/web/status"
        value = {"podlock.io/tunnel": "hbone"}
        assert json.loads(mark.body) == {
            "metadata": {"uid": "u", "annotations": value, "labels": value}
        }

    def test_is_taken_off_by_null(self) -> None:
        """As a merge patch removes a key (RFC 7396)."""
        body = json.loads(Mark("shop", "web", "u", on=False).body)
        assert body["metadata"]["labels"] == {"podlock.io/tunnel": None}


class TestEvents:
    def test_is_about_the_pod(self) -> None:
        """As `kubectl describe pod` looks for it."""
        made = event_document(plain(), "Warning", "MeshRefused", "why", NOW, "n1")
        about = made["involvedObject"]
        assert isinstance(about, dict)
        assert (about["kind"], about["name"], about["uid"]) == ("Pod", "web", "u")
        assert made["firstTimestamp"] == "2026-01-02T03:04:05Z"
        assert made["type"] == "Warning"

    def test_a_long_note_is_cut(self) -> None:
        """The API server refuses more than 1024 bytes; letters stay whole."""
        made = event_document(plain(), "Normal", "R", "ü" * 600, NOW, "n1")
        note = made["message"]
        assert isinstance(note, str)
        assert len(note.encode()) <= 1024
        assert note.endswith("ü...")
