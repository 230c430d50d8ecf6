"""
What the tests of the programs run in: a cgroup, network namespaces and processes.

Everything has a name of its own, so that two runs at once do not meet, and is removed
by who made it. Applications are forked children in the scratch cgroup: a socket is
judged by the cgroup it was made in.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import ipaddress
import itertools
import os
import secrets
import signal
import socket
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from agent.addresses import IPAddress
from agent.redirect.bpffs import find_cgroup
from agent.redirect.netns import CLONE_NEWNET, inside, netns_cookie_of
from tests.patience import patient

PATIENCE_SECONDS: Final = patient(5.0)
ANY4: Final = "0.0.0.0"  # noqa: S104 in a namespace of the test
ANY: Final = "::"
SOURCE: Final = Path(__file__).resolve().parents[2] / "bpf"
BPFFS: Final = Path("/sys/fs/bpf")
NETNS_DIRECTORY: Final = Path("/run/netns")

_LIBC: Final = ct.CDLL(None, use_errno=True)


RUN: Final = secrets.token_hex(4)
"""What the names of this process have in common."""
_numbers = itertools.count()


def unique(kind: str) -> str:
    """A name that no other run has; without a dot, as bpffs wants it."""
    return f"podlock-{kind}-{RUN}-{next(_numbers)}"


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def listening(host: str, port: int) -> socket.socket:
    """A blocking listener with a deadline; `::` takes both families."""
    s = socket.socket(family_of(host))
    s.settimeout(PATIENCE_SECONDS)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen()
    return s


def connected(host: str, port: int) -> socket.socket:
    """A blocking client with a deadline."""
    s = socket.socket(family_of(host))
    s.settimeout(PATIENCE_SECONDS)
    try:
        s.connect((host, port))
    except OSError:
        s.close()
        raise
    return s


# Network namespaces.


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace by name, open for as long as the test has it."""

    name: str
    fd: int
    addresses: tuple[IPAddress, ...] = ()

    @property
    def path(self) -> Path:
        return NETNS_DIRECTORY / self.name

    @property
    def cookie(self) -> int:
        return netns_cookie_of(self.fd)

    @property
    def ip4(self) -> str:
        return str(self.addresses[0])

    @property
    def ip6(self) -> str:
        return str(self.addresses[1])

    def listen(self, host: str, port: int) -> socket.socket:
        """A listener of this process, outside the scratch cgroup."""
        with inside(self.fd):
            return listening(host, port)

    def connect(self, host: str, port: int) -> socket.socket:
        """A client of this process, outside the scratch cgroup."""
        with inside(self.fd):
            return connected(host, port)

    def write(self, path: str, value: str) -> None:
        """Set a sysctl of the namespace."""
        with inside(self.fd):
            Path(path).write_text(value)


@contextlib.contextmanager
def namespace(number: int = 0, outside: Namespace | None = None) -> Iterator[Namespace]:
    """
    With `outside`: a pod with 10.9.N.2 and fd09:N::2, joined to it by a veth.

    Pods reach each other and every other address by way of `outside`.
    """
    name = unique("test")
    addresses = (f"10.9.{number}.2", f"fd09:{number}::2") if outside else ()
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        if outside:
            _join(name, number, outside.name)
        fd = os.open(NETNS_DIRECTORY / name, os.O_RDONLY)
        try:
            yield Namespace(name, fd, tuple(map(ipaddress.ip_address, addresses)))
        finally:
            os.close(fd)
    finally:
        run("ip", "netns", "del", name)


def _join(pod: str, number: int, outside: str) -> None:
    wire = f"veth{number}"
    ends = ("type", "veth", "peer", "name", "eth0", "netns", pod)
    run("ip", "-n", outside, "link", "add", wire, *ends)
    for where, device, host in ((outside, wire, 1), (pod, "eth0", 2)):
        add = ("ip", "-n", where, "addr", "add")
        run(*add, f"10.9.{number}.{host}/24", "dev", device)
        run(*add, f"fd09:{number}::{host}/64", "dev", device, "nodad")
        run("ip", "-n", where, "link", "set", device, "up")
    run("ip", "-n", pod, "route", "add", "default", "via", f"10.9.{number}.1")
    run("ip", "-n", pod, "route", "add", "default", "via", f"fd09:{number}::1")


# Control groups.


@contextlib.contextmanager
def scratch_cgroup() -> Iterator[Path]:
    """A cgroup of our own; its processes must have ended when the block does."""
    path = find_cgroup(None) / unique("test")
    path.mkdir()
    try:
        yield path
    finally:
        path.rmdir()


# Applications.


@dataclass(frozen=True, slots=True)
class Application:
    """A forked child in the cgroup and in a pod, and the words it sends."""

    pid: int
    line: Connection

    def hear(self) -> Any:
        """What the child says next, or its failure, or that it is silent."""
        assert self.line.poll(PATIENCE_SECONDS), "the application says nothing"
        kind, value = self.line.recv()
        assert kind == "said", f"the application failed:\n{value}"
        return value

    def end(self) -> None:
        """Kill it; once it has been waited for, nothing is left to do."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)

    def tell(self, word: Any = None) -> None:
        """Let the child go on from its `line.recv`."""
        self.line.send(word)


@contextlib.contextmanager
def application(
    cgroup: Path, where: Namespace, main: Callable[[Talk], None]
) -> Iterator[Application]:
    """Run `main` in a child, and end the child with the block."""
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        _be_application(cgroup, where.fd, main, Talk(theirs))
    theirs.close()
    child = Application(pid, ours)
    try:
        yield child
    finally:
        child.end()
        ours.close()


@dataclass(frozen=True, slots=True)
class Talk:
    """The application's end of the line to the test."""

    line: Connection

    def say(self, value: Any) -> None:
        self.line.send(("said", value))

    def wait(self) -> Any:
        """Until the test tells."""
        return self.line.recv()


def _be_application(
    cgroup: Path, netns_fd: int, main: Callable[[Talk], None], talk: Talk
) -> None:
    try:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        assert _LIBC.setns(netns_fd, CLONE_NEWNET) == 0
        _forget_all_but(talk.line.fileno())
        main(talk)
    except BaseException:  # noqa: BLE001 the test reads it
        talk.line.send(("failed", traceback.format_exc()))
    finally:
        os._exit(0)


def _forget_all_but(line: int) -> None:
    """An inherited listener would go on listening when the test has closed it."""
    os.closerange(3, line)
    os.closerange(line + 1, os.sysconf("SC_OPEN_MAX"))
