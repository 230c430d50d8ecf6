"""`podlock authz`: words in, words and an exit code out; no agent needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.authz.seen import Seen
from agent.cli.authz_source import live
from agent.kube.export import manifests
from agent.kube.offline import read_documents
from agent.status import client, flows
from tests.unit.authz.samples import (
    Manifest,
    api_policy,
    namespace,
    policy,
    service,
    shop,
    spiffe,
)
from tests.unit.authz.test_seen import opened, outsider, refused

from .conftest import Type

WEB, BATCH = spiffe("web"), spiffe("batch")


def repository(path: Path, *documents: Manifest) -> Path:
    path.mkdir()
    (path / "all.yaml").write_text(yaml.safe_dump_all(documents))
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A cluster's repository in which web may call api."""
    return repository(tmp_path / "repository", *shop(*api_policy("web")))


class FakeAgent:
    """Answers with its objects and with what it has seen."""

    def __init__(self) -> None:
        self.seen = Seen(0)
        self.documents = shop(*api_policy("web"))
        self.federated: list[str] = []

    def fetch(self, path: Path, name: str, *_: object) -> dict[str, Any]:
        if name == "seen":
            told: Any = flows.document(self.seen, "n1")
        else:
            objects = read_documents(("live", document) for document in self.documents)
            told = {
                "node": "n1",
                "setting": {
                    "trust_domain": "cluster.local",
                    "default_inbound": "deny",
                    "cluster_networks": ["10.0.0.0/8"],
                    "root_namespace": "istio-system",
                    "federated": self.federated,
                },
                "unreadable": {"linkerd": [], "istio": []},
                "manifests": list(manifests(objects)),
            }
        return dict(json.loads(json.dumps(told)))


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
    fake = FakeAgent()
    monkeypatch.setattr(client, "fetch", fake.fetch)
    fake.seen.apply(opened())
    return fake


class TestCheck:
    def ask(self, type_: Type, there: Path, source: str, *more: object) -> Any:
        words = ("--from", source, "--to", "api", "--port", 80, "--manifests", there)
        return type_("authz", "check", *words, *more)

    def test_allow(self, type_: Type, there: Path) -> None:
        """0, and which object says so."""
        result = self.ask(type_, there, "web")
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("allow  shop/web spiffe://")
        assert "AuthorizationPolicy shop/api admits" in result.stdout

    def test_deny(self, type_: Type, there: Path) -> None:
        """1, and why."""
        result = self.ask(type_, there, "batch")
        assert result.exit_code == 1
        assert result.stdout.startswith("deny   shop/batch")
        assert "no authorization of Server shop/api matches" in result.stdout

    def test_a_headless_service(self, type_: Type, tmp_path: Path) -> None:
        """Its clients come to its pods' addresses."""
        headless = service("shop/db", "None", 80, 80, "api")
        there = repository(tmp_path / "new", *shop(*api_policy("web"), headless))
        words = ("--to", "db", "--port", 80, "--manifests", there)
        assert type_("authz", "check", "--from", "web", *words).exit_code == 0
        assert type_("authz", "check", "--from", "batch", *words).exit_code == 1

    def test_json(self, type_: Type, there: Path) -> None:
        """The same for programs; the exit code too."""
        result = self.ask(type_, there, "192.0.2.1", "--json")
        assert result.exit_code == 1
        told = json.loads(result.stdout)
        (answer,) = told["answers"]
        assert told["allowed"] is False
        assert (answer["verdict"], answer["rule"]) == ("deny", "Server shop/api")
        assert answer["from"]["address"] == "192.0.2.1"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--from", "webb"), "do you mean shop/web?"),
            (("--address", "x"), "--address: 'x' is not an IP address"),
            (("--port", "0"), "1<=x<=65535"),
            (("--socket", "/s"), "one of --socket and --manifests"),
            (("--set", "trust_domain=UPPER"), "trust_domain"),
        ],
    )
    def test_wrong_usage(
        self, type_: Type, there: Path, words: tuple[str, str], said: str
    ) -> None:
        """2, and nothing on standard output that could pass for an answer."""
        result = self.ask(type_, there, "web", *words)
        assert result.exit_code == 2
        assert said in result.stderr
        assert not result.stdout

    def test_bad_manifests(self, type_: Type, there: Path) -> None:
        """2: half of the objects give no answer."""
        bad = policy("Server", "shop/bad", podSelector={}, port=0)
        (there / "bad.yaml").write_text(yaml.safe_dump(bad))
        result = self.ask(type_, there, "web")
        assert result.exit_code == 2
        assert "bad.yaml:1: Server shop/bad: spec.port" in result.stderr

    def test_a_reference_to_nothing(self, type_: Type, there: Path) -> None:
        """A warning, and the answer that holds: it admits nobody."""
        (there / "all.yaml").write_text(
            yaml.safe_dump_all(
                each
                for each in shop(*api_policy("web"))
                if each["kind"] != "MeshTLSAuthentication"
            )
        )
        result = self.ask(type_, there, "web")
        assert result.exit_code == 1
        assert "MeshTLSAuthentication shop/api does not exist" in result.stderr

    def test_live(self, type_: Type, agent: FakeAgent) -> None:
        """By what the agent has in force, its defaults included."""
        words = ("authz", "check", "--from", "web", "--to", "api", "--port")
        assert type_(*words, 80, "--socket", "/s").exit_code == 0
        result = type_(*words, 81, "--socket", "/s")
        assert result.exit_code == 1
        assert "default-inbound-policy deny" in result.stdout or "default deny" in (
            result.stdout
        )

    def test_a_federated_identity(self, type_: Type, agent: FakeAgent) -> None:
        """Allowed by a policy that then is not said to match nobody."""
        partner = "spiffe://partner.example/ns/shop/sa/web"
        api = api_policy("web")
        api[1]["spec"] = {"identities": [partner]}
        agent.documents = shop(*api)
        agent.federated = ["partner.example"]
        words = ("check", "--from", partner, "--to", "api", "--port", 80)
        result = type_("authz", *words, "--socket", "/s")
        assert result.exit_code == 0
        survey = live(Path("/s"))
        assert survey.problems == ()
        agent.federated = []
        assert "matches no workload" in str(live(Path("/s")).problems[0])

    def test_no_agent(self, type_: Type, tmp_path: Path) -> None:
        """2, not the 1 that means denied."""
        words = ("--from", "web", "--to", "api", "--port", 80)
        result = type_("authz", "check", *words, "--socket", tmp_path / "absent")
        assert result.exit_code == 2
        assert "no agent answers" in result.stderr


class TestWhoCan:
    def test_for_people(self, type_: Type, there: Path) -> None:
        """Identities, their pods, the rule."""
        words = ("--to", "api", "--port", 80, "--manifests", there)
        result = type_("authz", "who-can", *words)
        assert result.exit_code == 0
        assert f"  {WEB} (shop/web): AuthorizationPolicy shop/api" in result.stdout
        assert "batch" not in result.stdout

    def test_json(self, type_: Type, there: Path) -> None:
        """A port without a Server is open to all, by the default."""
        words = ("--to", "api", "--port", 81, "--manifests", there, "--json")
        told = json.loads(type_("authz", "who-can", *words).stdout)
        (server,) = told["servers"]
        assert [each["who"] for each in server["plaintext"]] == ["0.0.0.0/0", "::/0"]


class TestDiff:
    def test_nothing_changes(
        self, type_: Type, agent: FakeAgent, tmp_path: Path
    ) -> None:
        """0."""
        proposal = repository(tmp_path / "new", *api_policy("web", "batch"))
        result = type_("authz", "diff", proposal, "--socket", "/s")
        assert result.exit_code == 0, result.stderr
        assert (
            "1 flows judged: 0 would start to be refused, 0 would stop" in result.stdout
        )

    def test_would_refuse(self, type_: Type, agent: FakeAgent, tmp_path: Path) -> None:
        """1; who, and by which object, now and then."""
        proposal = repository(tmp_path / "new", *api_policy("batch"))
        result = type_("authz", "diff", proposal, "--socket", "/s")
        assert result.exit_code == 1
        assert f"would be refused: {WEB} -> shop/api:80 (1 seen" in result.stdout
        assert "then: no authorization of Server shop/api matches" in result.stdout

    @pytest.mark.parametrize("words", [(), ("--json",)])
    def test_not_enough_data(
        self, type_: Type, agent: FakeAgent, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        """3 where the policy of a pod changes to which nothing was seen."""
        agent.seen = Seen(0)
        proposal = repository(tmp_path / "new", *api_policy("batch"))
        result = type_("authz", "diff", proposal, "--socket", "/s", *words)
        assert result.exit_code == 3
        if words:
            told = json.loads(result.stdout)
            assert (told["enough"], told["changes"]) == (False, False)
            assert told["unseen"] == [
                {"pod": "shop/api", "node": "n2", "node_asked": False}
            ]
            assert told["nodes"][0]["since"] == "1970-01-01T00:00:00.000Z"
            return
        assert "no connection seen: shop/api on n2, which was not asked" in (
            result.stdout
        )
        assert "based on node n1: 0 flows since 1970-01-01" in result.stdout
        assert "not enough data: the policy of 1 pods changes" in result.stdout
        assert "their nodes were not all asked" in result.stdout

    def test_a_change_is_told_before_missing_data(
        self, type_: Type, agent: FakeAgent, tmp_path: Path
    ) -> None:
        """1: what is seen already suffices to say that something changes."""
        closed = policy("Server", "shop/web", podSelector={}, port=81)
        proposal = repository(tmp_path / "new", *api_policy("batch"), closed)
        assert type_("authz", "diff", proposal, "--socket", "/s").exit_code == 1

    def test_nothing_was_seen_and_nothing_changes(
        self, type_: Type, agent: FakeAgent, tmp_path: Path
    ) -> None:
        """0: no connection is needed to see that no pod's policy changes."""
        agent.seen = Seen(0)
        proposal = repository(tmp_path / "new", *api_policy("web"))
        assert type_("authz", "diff", proposal, "--socket", "/s").exit_code == 0

    def test_audit_is_no_refusal(
        self, type_: Type, agent: FakeAgent, tmp_path: Path
    ) -> None:
        """What would only be audited is told, and 0."""
        server, *_ = api_policy()
        server["spec"]["accessPolicy"] = "audit"
        proposal = repository(tmp_path / "new", server)
        result = type_("authz", "diff", proposal, "--socket", "/s", "--prune")
        assert result.exit_code == 0
        assert f"would be audited: {WEB}" in result.stdout

    def test_prune(self, type_: Type, agent: FakeAgent, tmp_path: Path) -> None:
        """What is not proposed is gone."""
        server, *_ = api_policy()
        proposal = repository(tmp_path / "new", server)
        assert type_("authz", "diff", proposal, "--socket", "/s").exit_code == 0
        words = ("authz", "diff", proposal, "--socket", "/s", "--prune", "--json")
        result = type_(*words)
        assert result.exit_code == 1
        (difference,) = json.loads(result.stdout)["differences"]
        assert difference["after"]["verdict"] == "deny"

    def test_without_an_agent(
        self, type_: Type, agent: FakeAgent, there: Path, tmp_path: Path
    ) -> None:
        """From a repository and a file of what was seen."""
        agent.seen.apply(refused())
        told = tmp_path / "n1.json"
        told.write_text(json.dumps(flows.document(agent.seen, "n1")))
        proposal = repository(tmp_path / "new", *api_policy("batch"))
        words = ("--manifests", there, "--seen", told)
        assert type_("authz", "diff", proposal, *words).exit_code == 1

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"flows": 7}'])
    def test_a_bad_file(
        self, type_: Type, there: Path, tmp_path: Path, text: str
    ) -> None:
        """2, and its name."""
        told = tmp_path / "n1.json"
        told.write_text(text)
        words = ("--manifests", there, "--seen", told)
        result = type_("authz", "diff", there, *words)
        assert result.exit_code == 2
        assert "n1.json" in result.stderr


class TestSuggest:
    def test_manifests_with_notes(self, type_: Type, agent: FakeAgent) -> None:
        """YAML that can be applied; what to know is in its comments."""
        result = type_("authz", "suggest", "--socket", "/s")
        assert result.exit_code == 0
        assert result.stdout.startswith("# ")
        kinds = [each["kind"] for each in yaml.safe_load_all(result.stdout)]
        assert kinds == ["Server", "MeshTLSAuthentication", "AuthorizationPolicy"]

    def test_of_all_nodes(self, type_: Type, agent: FakeAgent, tmp_path: Path) -> None:
        """Asked of every node, it closes the namespace too."""
        files = []
        for node in ("n1", "n2"):
            files += ["--seen", tmp_path / f"{node}.json"]
            text = json.dumps(flows.document(agent.seen, node))
            (tmp_path / f"{node}.json").write_text(text)
        result = type_("authz", "suggest", "--socket", "/s", "--json", *files)
        assert result.exit_code == 0, result.stderr
        told = json.loads(result.stdout)
        assert told["manifests"][0]["kind"] == "Server"  # its default is deny already

    def test_what_the_present_policies_refuse(
        self, type_: Type, agent: FakeAgent
    ) -> None:
        """A comment with counts, and no manifest; --include-refused writes it."""
        agent.documents = shop(*api_policy("batch"))
        words = ("authz", "suggest", "--socket", "/s")
        told = type_(*words).stdout
        assert list(filter(None, yaml.safe_load_all(told))) == []
        assert f"# left out: {WEB} -> shop/api:80 (refused 0, allowed 1," in told
        assert "the present policies refuse it: no authorization of Server" in told
        again = type_(*words, "--include-refused").stdout
        assert "left out" not in again
        assert len(list(yaml.safe_load_all(again))) == 3
        (left,) = json.loads(type_(*words, "--json").stdout)["refused"]
        assert (left["client"], left["refused"], left["allowed"]) == (WEB, 0, 1)

    @pytest.mark.parametrize("form", ["istio", "linkerd"])
    def test_no_aliases(self, type_: Type, agent: FakeAgent, form: str) -> None:
        """Values that two rules share are written out in each."""
        open_ = namespace("shop", default="all-unauthenticated")
        agent.documents = [open_, *shop()[1:]]
        agent.seen.apply(opened(outsider(1), path="plaintext"))
        words = ("authz", "suggest", "--socket", "/s")
        told = type_(*words, "--format", form).stdout
        assert "ipBlocks" in told or "networks" in told
        assert "&id" not in told
        assert "*id" not in told


@pytest.mark.parametrize("command", ["check", "who-can", "diff", "suggest"])
def test_help(type_: Type, command: str) -> None:
    """Each says what it does and what its options mean."""
    result = type_("authz", command, "--help")
    assert result.exit_code == 0
    assert "--manifests" in result.stdout
