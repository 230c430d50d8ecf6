"""A failure is one line on stderr and an exit code that says whose turn it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.config import ConfigError
from agent.errors import KernelError

from .conftest import FakeApp, Type


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "complaint"),
        [
            (["nonsense"], "podlock: error: No such command 'nonsense'"),
            (["run", "--nonsense"], "podlock: error: No such option"),
            (["run", "--set", "node"], "podlock: error: --set node: expected KEY="),
            (["run", "--set", "nod=a"], "did you mean node?"),
            (["run", "--config", "/nonexistent"], "/nonexistent: no such file"),
            (["connections", "--outcome", "odd"], "podlock: error: Invalid value"),
            (["identity", "token", "create"], "one of --node, --workload"),
        ],
    )
    def test_a_wrong_command_line(
        self, type_: Type, words: list[str], complaint: str
    ) -> None:
        """Wrong usage and wrong configuration are exit code 2, on stderr only."""
        result = type_(*words)

        assert result.exit_code == 2
        assert complaint in result.stderr
        assert result.stdout == ""

    def test_a_failure(self, type_: Type, app: FakeApp) -> None:
        """What went wrong at work is exit code 1."""
        app.error = KernelError("no bpffs at /sys/fs/bpf")

        result = type_("run")

        assert result.exit_code == 1
        assert result.stderr == "podlock: error: no bpffs at /sys/fs/bpf\n"

    def test_a_configuration_error_at_work(self, type_: Type, app: FakeApp) -> None:
        """What a part finds wrong with its settings is still exit code 2."""
        app.error = ConfigError("redirect.cgroup: not a cgroup")

        assert type_("run").exit_code == 2

    def test_a_nursery_full_of_failures(self, type_: Type, app: FakeApp) -> None:
        """Each error of a group has its line."""
        nested = ExceptionGroup("inner", [KernelError("two")])
        app.error = ExceptionGroup("outer", [KernelError("one"), nested])

        assert type_("run").stderr == "podlock: error: one\npodlock: error: two\n"

    def test_an_accident_is_not_hidden(self, type_: Type, app: FakeApp) -> None:
        """A bug keeps its traceback, alone and in a group."""
        app.error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            type_("run")

        app.error = ExceptionGroup("x", [KernelError("one"), ZeroDivisionError()])
        with pytest.raises(ExceptionGroup):
            type_("run")

    def test_an_interrupt(self, type_: Type, app: FakeApp) -> None:
        """Ctrl-C is 130, as a shell expects, and no traceback."""
        app.error = KeyboardInterrupt()

        result = type_("run")

        assert result.exit_code == 130
        assert "Traceback" not in result.stderr


class TestHelp:
    def test_alone_it_lists_the_commands(self, type_: Type) -> None:
        """`podlock` is a question, and gets the list as an answer."""
        result = type_()

        assert result.exit_code == 2
        assert "connections" in result.stderr

    def test_every_command_has_help(self, type_: Type) -> None:
        """`--help` works all the way down, and says something."""
        for words in (["run"], ["ca", "init"], ["identity", "token", "create"]):
            result = type_(*words, "--help")
            assert result.exit_code == 0
            assert "Options:" in result.stdout

    def test_start_up_is_light(self) -> None:
        """The parts that run an agent are not loaded to ask one."""
        heavy = ("trio", "cryptography", "hypercorn", "httpx")
        program = (
            "import sys, agent.__main__;"
            f"print([name for name in {heavy} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )

        assert done.stdout == "[]\n"
