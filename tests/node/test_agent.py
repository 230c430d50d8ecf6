"""The agent itself: its own ports, its processes, its memory, and how it is asked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.demo import stage
from tests.demo.calls import Program
from tests.demo.stage import Stage
from tests.lab import manifests, system
from tests.lab.identity import podlock
from tests.lab.manifests import ManifestDirectory
from tests.lab.node import Document

pytestmark = pytest.mark.slow

CAPTURED_PODS_MEMORY_BYTES = 100 << 20


def serves(world: Stage) -> bool:
    url = f"http://{world.pods['api'].address.v4}/"
    return world.pods["web"].run("curl", "-sS", url).stdout == world.page("api")


class TestOwnPorts:
    @pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
    @pytest.mark.parametrize("port", [15001, 15006])
    def test_from_inside_the_pod(self, world: Stage, host: str, port: int) -> None:
        """A pod that calls the agent's ports by itself is refused, with a reason."""
        reason = "own outbound port" if port == 15001 else "belongs to the agent"
        done = world.pods["web"].run("curl", "-sS", f"http://{host}:{port}/")
        assert done.returncode != 0

        def find() -> Document | None:
            recent = world.agents["n1"].ask("connections")["recent"]
            found = [one for one in recent if reason in (one["reason"] or "")]
            return found[-1] if found else None

        assert system.wait_until(find, reason, 5)["outcome"] == "refused"
        assert serves(world)

    @pytest.mark.parametrize("port", [15001, 15006, 15008])
    def test_of_another_pod(self, world: Stage, port: int) -> None:
        """A peer's agent ports are not reachable through the mesh."""
        url = f"http://{world.pods['api'].address.v4}:{port}/"
        assert world.pods["web"].run("curl", "-sS", url).returncode != 0
        assert serves(world)

    @pytest.mark.parametrize("port", [15001, 15006])
    def test_from_outside(self, world: Stage, port: int) -> None:
        """An outsider who asks for them meets policy and a refusal."""
        url = f"http://{world.pods['open'].address.v4}:{port}/"
        assert world.pods["outsider"].run("curl", "-sS", url).returncode != 0


class TestProcesses:
    def test_a_worker_that_dies_is_started_again(self, world: Stage) -> None:
        """It takes its own connections with it; the next ones are served."""
        agent = world.agents["n2"]
        before = agent.ask("status")["workers"][0]
        os.kill(before["pid"], signal.SIGKILL)

        def again() -> bool:
            worker = agent.ask("status")["workers"][0]
            alive = worker["pid"] not in (None, before["pid"])
            return alive and worker["restarts"] == before["restarts"] + 1

        system.wait_until(again, "a new worker", 10)
        system.wait_until(lambda: serves(world), "traffic", 10)

    def test_stopped_and_started(self, world: Stage) -> None:
        """SIGTERM ends it in order; pods are refused meanwhile; it comes back."""
        agent = world.agents["n2"]
        agent.stop()
        assert not agent.processes()
        assert not serves(world)
        agent.start()
        stage.wait_captured(agent)
        system.wait_until(lambda: serves(world), "traffic", 10)

    def test_memory(self, world: Stage) -> None:
        """Control and one worker stay small, and LLVM is mapped in neither."""
        pids = world.agents["n2"].processes()
        assert len(pids) == 2
        assert system.proportional_memory(pids) < CAPTURED_PODS_MEMORY_BYTES
        for pid in pids:
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "LLVM" not in maps
            assert "libbcc" not in maps

    def test_no_core_dumps(self, world: Stage) -> None:
        """Control, worker and identity service hold keys: their limit is 0."""
        identity = world.lab.host_cgroup("identity")
        pids = [*world.agents["n2"].processes(), *system.processes_in(identity)]
        assert len(pids) == 3
        for pid in pids:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits), pid


class TestQuestions:
    @pytest.mark.parametrize(
        "command",
        [
            "status",
            "workloads",
            "certificates",
            "policies",
            "connections",
            "seen",
            "events",
            "objects",
        ],
    )
    def test_commands(self, world: Stage, command: str) -> None:
        """Each answers for people and as JSON, and curl gets the same keys."""
        agent = world.agents["n2"]
        for_people = agent.command(command)
        as_json = agent.command(command, "--json")
        url = f"http://localhost/v1/{command}"
        curl = subprocess.run(
            ["curl", "-sS", "--unix-socket", str(agent.socket), url],
            capture_output=True,
            check=True,
        )
        assert for_people.returncode == 0, for_people.stderr
        assert for_people.stdout.strip()
        assert json.loads(as_json.stdout).keys() == json.loads(curl.stdout).keys()

    def test_names(self, world: Stage) -> None:
        """Short ones are understood, and mistyped ones are an error with a hint."""
        agent = world.agents["n2"]
        assert serves(world)
        (api,) = agent.ask("workloads", workload="api")["workloads"]
        assert (api["namespace"], api["name"]) == ("shop", "api")
        everything = len(agent.ask("workloads")["workloads"])
        told = agent.command("workloads", "api")
        assert told.returncode == 0, told.stderr
        assert f"1 of {everything} shown" in told.stdout
        assert agent.command("certificates", "api").returncode == 0
        assert "shop/api" in agent.command("connections", "api").stdout
        for words, hint in (
            (("workloads", "apj"), "do you mean shop/api?"),
            (("connections", "--workload", "apj"), "do you mean shop/api?"),
            (("events", "--kind", "captrued"), "do you mean captured?"),
        ):
            told = agent.command(*words)
            assert told.returncode == 2
            assert hint in told.stderr
            assert not told.stdout

    def test_a_proposal_about_a_pod_that_nothing_called(
        self, world: Stage, tmp_path: Path
    ) -> None:
        """Not enough data, which is not "nothing changes"."""
        closed = manifests.server("sink", "shop", "sink", 9999)
        ManifestDirectory(tmp_path).write("sink", closed)
        agent = world.agents["n1"]
        told = agent.command("authz", "diff", str(tmp_path))
        assert told.returncode == 3, told.stdout + told.stderr
        assert "no connection seen: shop/sink on n2, which was not asked" in told.stdout
        assert "based on node n1:" in told.stdout

    def test_a_policy_without_effect(self, world: Stage) -> None:
        """`check` warns of it, and of nothing any more when it is gone."""
        agent = world.agents["n2"]
        idle = manifests.server("idle", "shop", "nosuch", 80)
        warning = "warning: Server shop/idle: spec.podSelector: matches no pod"
        world.directory.write("idle", idle)
        system.wait_until(lambda: warning in agent.command("check").stdout, warning, 10)
        world.directory.remove("idle")
        system.wait_until(
            lambda: warning not in agent.command("check").stdout, "no warning", 10
        )

    def test_policies_name_their_objects(self, world: Stage) -> None:
        """What api admits on port 80, and which objects say so."""
        (policy,) = world.agents["n2"].ask("policies", workload="shop/api")["policies"]
        (port,) = policy["ports"]
        (authorization,) = port["authorizations"]
        assert (port["port"], port["server"]) == (80, "Server shop/api-http")
        assert authorization["name"] == "AuthorizationPolicy shop/api-callers"

    def test_a_socket_that_nobody_answers(self, tmp_path: Path) -> None:
        """The command says that no agent is there, and where it looked."""
        argv = podlock("status", "--socket", tmp_path / "no.sock")
        done = subprocess.run(argv, text=True, capture_output=True, check=False)
        assert done.returncode == 1
        assert "no.sock" in done.stderr


class TestDraining:
    def test_what_is_under_way_finishes(self, world: Stage) -> None:
        """SIGTERM to an agent lets a transfer finish; new connections are refused."""
        sink, agent, gate = world.pods["sink"], world.agents["n2"], Path(world.gate)
        total = 16 << 20
        push = ("push", sink.address.v4, stage.SLOW_PORT, total, str(gate))
        transfer = Program(world.pods["web"], "slowreader", *push)
        assert transfer.wait("stuck")["pushed"] < total

        stopping = threading.Thread(target=agent.stop)
        stopping.start()
        system.wait_until(lambda: not serves(world), "no new connections", 5)
        gate.touch()
        done = transfer.wait("done")
        stopping.join()
        gate.unlink()
        assert (done["pushed"], done["received"]) == (total, total)

        agent.start()
        stage.wait_captured(agent)
        system.wait_until(lambda: serves(world), "traffic", 10)
