"""A name in a question stands for what a person means by it, or is reported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.kube.export import manifests
from agent.kube.offline import read_documents
from agent.policy.kinds import POLICY_KINDS
from agent.status.documents import NAMES
from agent.status.events import KINDS
from agent.status.filters import FILTERS, OBJECT_KINDS, POSITIONAL, catalogue, matching
from agent.status.routes import parse, select
from tests.unit.authz.samples import shop

from .samples import workloads

ROOT = Path(__file__).parents[3]
WEB = "spiffe://cluster.local/ns/shop/sa/web"
KNOWN = catalogue(workloads()["workloads"])


def filtered(name: str, query: str, document: dict[str, Any]) -> dict[str, Any]:
    found = select(parse("GET", f"/v1/{name}", query), document, KNOWN)
    return dict(found["filtered"])


class TestMatching:
    @pytest.mark.parametrize(
        "text",
        [
            WEB,
            "web",
            "shop/web",
            "web.shop.serviceaccount.identity.linkerd.cluster.local",
        ],
    )
    def test_an_identity(self, text: str) -> None:
        """All ways that `authz` reads, and the short ones."""
        assert matching(text, {WEB, f"{WEB}2"}) == {WEB}

    def test_a_short_name_of_two(self) -> None:
        """Both: each row has the namespace."""
        known = {"shop/web", "back/web", "shop/webber"}
        assert matching("web", known) == {"shop/web", "back/web"}
        assert matching("shop/web", known) == {"shop/web"}

    def test_a_state_that_is_a_sentence(self) -> None:
        """By its first words; the whole sentence is one alone."""
        known = {"valid", "valid, to be renewed", "not valid yet: compare clocks"}
        assert matching("valid", known) == {"valid"}
        assert matching("not valid yet", known) == {"not valid yet: compare clocks"}


class TestUnknown:
    def test_a_workload(self) -> None:
        """With the nearest that there is."""
        told = filtered("workloads", "workload=wbe", workloads())
        (text,) = told["unknown"]
        assert text == "workload wbe: no workload has this name; do you mean shop/web?"
        assert told["shown"] == 0

    def test_an_identity(self) -> None:
        """Near to the account's name."""
        document: dict[str, Any] = {"certificates": [{"identity": WEB, "state": "x"}]}
        (text,) = filtered("certificates", "identity=wbe", document)["unknown"]
        assert text.endswith(f"do you mean {WEB}?")

    def test_a_kind_of_event(self) -> None:
        """One that did not happen is none that does not exist."""
        document: dict[str, Any] = {"events": [], "dropped": 0}
        assert filtered("events", "kind=captured", document)["unknown"] == []
        (text,) = filtered("events", "kind=captrued", document)["unknown"]
        assert text.endswith("no kind of event has this name; do you mean captured?")

    def test_a_workload_without_connections(self) -> None:
        """Known from the workloads: nothing is an answer."""
        document: dict[str, Any] = {"open": [], "recent": [], "counts": {}}
        told = filtered("connections", "workload=web", document)
        assert told == {"shown": 0, "of": 0, "unknown": []}

    def test_an_address(self) -> None:
        """No connection came from it, and none has to."""
        assert filtered("seen", "client=192.0.2.1", {"flows": []})["unknown"] == []


def test_objects_by_name_and_namespace() -> None:
    """Manifests have their names inside."""
    objects = read_documents(("f", document) for document in shop())
    document: dict[str, Any] = {"manifests": list(manifests(objects))}
    assert filtered("objects", "name=api", document)["shown"] == 2  # Pod, Service
    assert filtered("objects", "name=shop", document)["shown"] == 1  # Namespace
    assert filtered("objects", "namespace=shop&kind=Pod", document)["shown"] == 3
    assert filtered("objects", "kind=pod", document)["shown"] == 4


def test_kinds_of_objects() -> None:
    """A kind of which there is no object now is none that does not exist."""
    policies = {kind.name for kind in POLICY_KINDS}
    assert policies | {"Namespace", "Pod", "Service", "EndpointSlice"} == set(
        OBJECT_KINDS
    )
    assert filtered("objects", "kind=server", {"manifests": []})["unknown"] == []


def test_every_list_takes_names() -> None:
    """One of its filters is what the words after the command are."""
    for name in NAMES:
        assert (name in POSITIONAL) is bool(FILTERS[name])
        if name in POSITIONAL:
            assert POSITIONAL[name] in FILTERS[name]


def noted_in(path: Path) -> Iterator[str]:
    """The kinds of the events that a module notes, where they are written there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", "")).lstrip("_")
        kinds = [each.value for each in node.keywords if each.arg == "kind"]
        if len(node.args) + len(node.keywords) < 3:
            continue
        if name in {"note", "incident", "tell", "Incident"}:
            for kind in kinds or node.args[:1]:
                for each in ast.walk(kind):
                    if isinstance(each, ast.Constant) and isinstance(each.value, str):
                        yield each.value


def test_every_kind_of_event_is_known() -> None:
    """A kind that the code notes and `KINDS` has not would be refused as a mistake."""
    noted = {kind for path in (ROOT / "agent").rglob("*.py") for kind in noted_in(path)}
    assert noted
    assert noted <= set(KINDS), noted - set(KINDS)
