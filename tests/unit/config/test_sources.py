"""A setting comes from where it should, and a wrong one is named, never ignored."""

from __future__ import annotations

import contextlib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import SocketAddress
from agent.config import Config, ConfigError, load, resolve
from agent.identity.spiffe import TrustDomain


def written(directory: Path, text: str) -> Path:
    file = directory / "podlock.yaml"
    file.write_text(text)
    return file


SERVICE = {"service": "https://ca", "anchors": "/a", "token": "/t"}
PARTNER = {"trust_domain": "partner.example", "file": "partner.json"}


def federated(domains: object) -> dict[str, Any]:
    return {"federation": {"domains": domains}}


class TestRefused:
    @pytest.mark.parametrize(
        ("document", "complaint"),
        [
            ([], "the top level: expected keys and values"),
            ({"limits": 3}, "limits: expected keys and values"),
            ({"limit": {}}, "limit: unknown key; did you mean limits?"),
            ({"limits": {"drain": 1}}, "did you mean limits.drain_seconds?"),
            ({"limits.drain_seconds": 1}, "unknown key"),
            ({1: 2}, "configuration: 1: unknown key"),
            ({"workers": "two"}, "workers: expected int, got str (found 'two')"),
            ({"workers": None}, "workers: expected a value"),
            ({"workers": -1}, "workers: expected int >= 0"),
            ({"limits": {"connections_per_pod": True}}, "expected int, got bool"),
            ({"limits": {"connect_timeout_seconds": 0}}, "expected float > 0"),
            ({"limits": {"connect_timeout_seconds": 1e9}}, "expected float <= 86400"),
            ({"node": 12}, "node: expected text (quote it)"),
            ({"node": "a b"}, "expected a node's name"),
            ({"manifests": ""}, "manifests: expected text"),
            ({"trust_domain": "Cluster.Local"}, "trust domain 'Cluster.Local'"),
            ({"log": {"level": ["info"]}}, "expected one of debug, info"),
            ({"policy": {"default_inbound": "allow"}}, "expected one of all-unauth"),
            ({"policy": {"cluster_networks": "10.0.0.0/8"}}, "expected a list"),
            ({"policy": {"cluster_networks": ["10.0.0.1/8"]}}, "has host bits set"),
            ({"authority": {"listen": "localhost:8443"}}, "is not an IP address"),
            ({"identity": {"service": "http://ca:1"}}, "expected an URL: https://"),
            ({"identity": {"service": "https://ca:x"}}, "identity.service"),
            ({"identity": {"service": "https://me@ca:1"}}, "expected no user"),
            ({"identity": {"service": "https://ca", "token": "t"}}, "identity.anchors"),
            ({"identity": {"service": "https://ca", "anchors": "a"}}, "identity.token"),
            ({"identity": {"token": "t"}}, "of no use without identity.service"),
            ({"identity": {"workload_api": "/run/a.sock"}}, "expected unix:///PATH"),
            ({"identity": {"workload_api": "unix:a.sock"}}, "expected unix:///PATH"),
            ({"identity": {"workload_api": "unix://h/a"}}, "expected unix:///PATH"),
            ({"identity": {**SERVICE, "workload_api": "unix:///a"}}, "of no use with"),
            (federated("a"), "expected a list of mappings"),
            (federated([1]), "entry 1: expected object"),
            (federated([{"file": "a"}]), "entry 1: object missing required field"),
            (federated([{**PARTNER, "fil": "b"}]), "unknown field fil"),
            (federated([{"trust_domain": "A", "file": "a"}]), "trust domain 'A'"),
            (federated([{"trust_domain": "a"}]), "entry 1: federation of a: expected"),
            (federated([{**PARTNER, "profile": "http"}]), "entry 1: invalid enum"),
            (federated([PARTNER, PARTNER]), "entry 2: partner.example stands twice"),
            (federated([{**PARTNER, "trust_domain": "cluster.local"}]), "is our own"),
            ({**federated([PARTNER]), "identity": SERVICE}, "is for https://ca to say"),
            ({"kubernetes": {"in_cluster": "yes"}}, "expected bool"),
            ({"kubernetes": {"in_cluster": True}}, "KUBERNETES_SERVICE_HOST is not"),
            (
                {"kubernetes": {"server": "https://api"}},
                "without kubernetes.in_cluster",
            ),
            ({"kubernetes": {"agent": "agent"}}, "expected a ServiceAccount"),
            ({"authority": {"config_map": "trust"}}, "expected NAMESPACE/NAME"),
            ({"authority": {"config_map": "a/b"}}, "of no use without kubernetes"),
            (
                {"authority": {"config_map": "a/b"}, "kubernetes": {"kubeconfig": "k"}},
                "authority.issuer: expected a directory",
            ),
            (
                {"manifests": "m", "kubernetes": {"kubeconfig": "k"}},
                "manifests: expected none",
            ),
            (
                {
                    "kubernetes": {
                        "in_cluster": True,
                        "server": "https://api",
                        "kubeconfig": "k",
                    }
                },
                "kubernetes.kubeconfig: expected none",
            ),
        ],
    )
    def test_names_key_and_expectation(self, document: Any, complaint: str) -> None:
        """Each mistake in the file has a message that one can act on."""
        with pytest.raises(ConfigError) as error:
            resolve(document)

        assert complaint in str(error.value)

    @pytest.mark.parametrize(
        ("name", "text", "complaint"),
        [
            (
                "PODLOCK_NOED",
                "a",
                "environment PODLOCK_NOED: unknown key; did you mean",
            ),
            ("PODLOCK_LIMITS__DRAIN", "1", "PODLOCK_LIMITS__DRAIN_SECONDS?"),
            ("PODLOCK_LIMITS", "1", "its settings: limits.connections_per_pod"),
            ("PODLOCK_Node", "a", "unknown key"),
            ("PODLOCK_WORKERS", "many", "environment PODLOCK_WORKERS: expected int"),
            ("PODLOCK_WORKERS", "", "PODLOCK_WORKERS: expected a value"),
        ],
    )
    def test_names_the_variable(self, name: str, text: str, complaint: str) -> None:
        """A mistake in the environment is told by the variable's name."""
        with pytest.raises(ConfigError) as error:
            resolve({}, {name: text})

        assert complaint in str(error.value)

    def test_names_the_flag(self) -> None:
        """A mistake in a flag is told as the flag was typed."""
        with pytest.raises(ConfigError, match=r"--set status\.sock: unknown key"):
            resolve({}, {}, {"status.sock": "/x"})

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("node: [", "not YAML"),
            ("node: a\nnode: b\n", "'node' stands twice"),
            ("node: \x00", "not YAML"),
            ("? [a]\n: b\n", "not YAML"),
            ("!!map node", "not YAML"),
            ("node: 2001-99-99", "not YAML"),
            ("[" * 5000, "not YAML"),
            ("node: !!python/object:os.system x", "not YAML"),
        ],
    )
    def test_a_broken_file(self, tmp_path: Path, text: str, complaint: str) -> None:
        """A file that is no YAML document is refused with its name."""
        with pytest.raises(ConfigError, match=complaint) as error:
            load(written(tmp_path, text), environment={})

        assert str(tmp_path / "podlock.yaml") in str(error.value)

    def test_a_named_file_must_exist(self, tmp_path: Path) -> None:
        """A wrong path does not pass for an empty configuration."""
        with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
            load(tmp_path / "absent.yaml", environment={})
        with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
            load(environment={"PODLOCK_CONFIG": str(tmp_path / "absent.yaml")})

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_any_value_is_taken_or_refused(self, value: Any) -> None:
        """Nothing but ConfigError comes out, whatever stands under a known key."""
        for document in (value, {"node": value}, {"limits": {"drain_seconds": value}}):
            with contextlib.suppress(ConfigError):
                assert isinstance(resolve(document), Config)

    @given(st.text())
    def test_any_text_is_taken_or_refused(self, text: str) -> None:
        """The same for every kind of setting that the environment can carry."""
        for key in ("NODE", "WORKERS", "IDENTITY__SERVICE", "AUTHORITY__LISTEN"):
            with contextlib.suppress(ConfigError):
                assert isinstance(resolve({}, {f"PODLOCK_{key}": text}), Config)


class TestPrecedence:
    def test_flag_environment_file_default(self) -> None:
        """The nearer to the person, the stronger; the origin is on record."""
        document = {"node": "file", "workers": 1, "log": {"level": "error"}}
        environment = {"PODLOCK_NODE": "environment", "PODLOCK_WORKERS": "2"}

        config = resolve(document, environment, {"node": "flag"})

        assert (config.node, config.workers, config.log.level) == ("flag", 2, "error")
        assert config.origins["node"] == "flag"
        assert config.origins["workers"] == "environment"
        assert config.origins["log.level"] == "file"
        assert config.origins["trust_domain"] == "default"

    def test_an_empty_file_is_all_defaults(self, tmp_path: Path) -> None:
        """A file of comments is a file."""
        config = load(written(tmp_path, "# nothing yet\n"), environment={})

        assert set(config.origins.values()) == {"default"}
        assert config.trust_domain == TrustDomain("cluster.local")
        assert ip_network("fd00::/8") in config.policy.cluster_networks

    def test_an_empty_section_is_no_mistake(self) -> None:
        """`limits:` with everything under it commented out is fine."""
        assert resolve({"limits": None}).limits.drain_seconds == 5.0

    def test_variables_that_the_kubelet_makes(self) -> None:
        """A Service named podlock-identity does not keep the agent from starting."""
        host = "PODLOCK_IDENTITY_SERVICE_HOST"
        port = "PODLOCK_PORT_443_TCP_ADDR"

        resolve({}, {host: "10.0.0.1", port: "10.0.0.1", "PODLOCK_PORT": "tcp://x"})


class TestAgentAccount:
    """Whose tokens make a caller a node's agent."""

    @staticmethod
    def resolved(credentials: Path, **more: str) -> str:
        kubernetes = {"in_cluster": True, "credentials": str(credentials), **more}
        given = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        return resolve({"kubernetes": kubernetes}, given).kubernetes.agent

    def test_is_of_the_pods_own_namespace(self, tmp_path: Path) -> None:
        """Else who may create `podlock` were the agent of an installation beside it."""
        (tmp_path / "namespace").write_text("mesh-system\n")
        assert self.resolved(tmp_path) == "mesh-system/podlock-agent"
        assert self.resolved(tmp_path, agent="a/b") == "a/b"

    def test_elsewhere_it_has_a_default(self, tmp_path: Path) -> None:
        """Nothing is mounted outside a pod."""
        assert self.resolved(tmp_path) == "podlock/podlock-agent"
        outside = resolve({"kubernetes": {"kubeconfig": "k"}}).kubernetes.agent
        assert outside == "podlock/podlock-agent"


class TestValues:
    def test_paths_start_at_the_file(self, tmp_path: Path) -> None:
        """A configuration directory can be moved as a whole."""
        text = "manifests: objects\nrun_dir: /run/two\n"

        config = load(written(tmp_path, text), environment={})

        assert config.manifests == tmp_path / "objects"
        assert config.status.socket == Path("/run/two/agent.sock")

    def test_what_follows_from_another_setting(self) -> None:
        """Null asks for the value that is worked out."""
        config = resolve({"state_dir": "/s", "authority": {"directory": None}})

        assert config.authority.directory == Path("/s/authority")
        assert config.origins["authority.directory"] == "default"

    def test_lists_in_the_environment(self) -> None:
        """A list is written with commas where there is no YAML."""
        name = "PODLOCK_POLICY__CLUSTER_NETWORKS"

        config = resolve({}, {name: "10.0.0.0/8, fd00::/8"})

        assert config.policy.cluster_networks == (
            ip_network("10.0.0.0/8"),
            ip_network("fd00::/8"),
        )

    def test_the_mesh_s_namespace_is_a_namespace(self) -> None:
        """Whose Istio policies are about everybody."""
        config = resolve({"policy": {"root_namespace": "mesh"}})

        assert config.policy.root_namespace == "mesh"
        with pytest.raises(ConfigError, match=r"policy.root_namespace"):
            resolve({"policy": {"root_namespace": "Not.A.Label"}})

    def test_null_in_the_environment(self) -> None:
        """An empty variable takes an optional setting back."""
        document = {"redirect": {"cgroup": "/sys/fs/cgroup/x"}}

        config = resolve(document, {"PODLOCK_REDIRECT__CGROUP": ""})

        assert config.redirect.cgroup is None

    def test_federation(self, tmp_path: Path) -> None:
        """Paths are relative to the file; the effective values can be read."""
        server = "spiffe://third.example/bundle"
        third = {
            "trust_domain": "third.example",
            "url": "https://third/bundle",
            "profile": "https_spiffe",
            "endpoint_id": server,
            "file": "third.pem",
        }
        config = resolve(federated([PARTNER, third]), file=tmp_path / "podlock.yaml")

        first, second = config.federation.domains
        assert first.file == tmp_path / "partner.json"
        assert str(second.endpoint_id) == server
        values = config.document()["values"]["federation"]
        assert values["domains"][1] == "third.example from https://third/bundle"

    def test_a_spiffe_agent(self) -> None:
        """Its socket, as SPIFFE_ENDPOINT_SOCKET has it."""
        address = "unix:///run/spire/agent.sock"
        config = resolve({"identity": {"workload_api": address}})
        assert config.identity.workload_api == address

    def test_an_identity_service(self) -> None:
        """A cluster's agent knows the service, and how each knows the other."""
        identity = {"service": "https://ca:8443/", "anchors": "/a", "token": "/t"}

        config = resolve({"identity": identity, "authority": {"listen": "[::1]:9000"}})

        assert config.identity.service == "https://ca:8443"
        assert config.authority.listen == SocketAddress.parse("[::1]:9000")

    @pytest.mark.parametrize(
        ("host", "url"),
        [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
    )
    def test_the_api_server_is_where_the_kubelet_says(
        self, host: str, url: str
    ) -> None:
        """Unless the file says otherwise: without kube-proxy that address is dead."""
        environment = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": "443",
            "PODLOCK_KUBERNETES__IN_CLUSTER": "true",
        }
        config = resolve({}, environment)
        assert (config.kubernetes.is_used, config.kubernetes.server) == (True, url)
        given = resolve({"kubernetes": {"server": "https://lb:6443"}}, environment)
        assert given.kubernetes.server == "https://lb:6443"

    def test_manifests_are_the_default(self) -> None:
        """One machine needs no API server."""
        assert not resolve({}).kubernetes.is_used

    def test_workers_follow_the_cores(self) -> None:
        """0 is one worker per core and at most four; a number is that number."""
        assert 1 <= resolve({}).worker_count <= 4
        assert resolve({"workers": 7}).worker_count == 7

    def test_the_programs_are_shipped(self) -> None:
        """Without a setting the eBPF sources are those of this package."""
        assert resolve({}).redirect.source.name in {"bpf", "_bpf"}
        assert resolve({}).redirect.source.is_dir()
