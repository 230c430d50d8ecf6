"""
Pods, captured and released: the one place that decides in which order.

Capture: listeners, then who takes what comes in (sockhash, sk_lookup), then
`enrolled`. So no connection is turned to a port where nobody listens, and none that
was turned before goes in plaintext in between. Release is the reverse.

What outlives the agent is kept by the kernel: the enrolled entry and the netns link,
whose pin carries the pod's uid. Listeners do not, and the kernel forgets them in the
sockhash, so a pod is refused while there is no agent. The next agent captures its
pods again: it finds entry and link and renews them in place. Nothing that was there
before a capture is undone when the capture fails; the pod stays closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.addresses import IPAddress, unmapped
from agent.errors import InputError, KernelError
from agent.redirect import pins, pinset, whereabouts
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import NETNS_HOOK, NetnsPin, PinLayout, Ports
from agent.redirect.netns import inside, netns_cookie_of, own_netns_cookie
from agent.redirect.plan import difference
from agent.tcp import arm, tune

LISTEN_BACKLOG: Final = 1024

# No IPv6 in the kernel, or none in this namespace (net.ipv6.conf.lo.disable_ipv6).
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured pod. Its descriptors belong to the Enrolment; `release` closes."""

    uid: str
    netns_fd: int
    netns_cookie: int
    addresses: tuple[IPAddress, ...]
    outbound: tuple[socket.socket, ...]
    inbound: socket.socket
    tunnel: socket.socket

    @property
    def pin(self) -> NetnsPin:
        return NetnsPin(self.netns_cookie, self.uid)


class Enrolment:
    """The pods of this node that the agent has captured. Calls block for moments."""

    def __init__(
        self, pins: Path, maps: RedirectMaps, ports: Ports | None = None
    ) -> None:
        self._layout = PinLayout(pins)
        self._maps = maps
        self._ports = ports or Ports()
        self._captures: dict[str, Capture] = {}

    def capture(self, uid: str, netns: Path, addresses: Sequence[IPAddress]) -> Capture:
        """
        Redirect a pod's traffic to the sockets of the Capture that comes back.

        The same pod again gives the same Capture, with its new addresses if they
        changed; one that has moved to another namespace is to be given up first.
        Raises: InputError, KernelError, naming pod and cause.
        """
        wanted = tuple(dict.fromkeys(map(unmapped, addresses)))
        with _naming(uid), contextlib.ExitStack() as undo:
            netns_fd = _open_netns(netns)
            undo.callback(os.close, netns_fd)
            cookie = netns_cookie_of(netns_fd)
            held = self._captures.get(uid)
            if held and held.netns_cookie != cookie:
                raise InputError("it is captured in another network namespace")
            self._refuse_conflict(uid, cookie, wanted)
            if held:
                return self._readdress(held, wanted)
            made = self._listeners(uid, netns_fd, cookie, wanted, undo)
            self._take_inbound(made, undo)
            self._maps.enrol(cookie, wanted)
            undo.pop_all()
        self._captures[uid] = made
        return made

    def release(self, capture: Capture) -> None:
        """
        Leave a pod alone again. Every step is tried; the last failure is raised.

        Not for an agent that stops: then pods stay enrolled and are refused.
        """
        self._captures.pop(capture.uid, None)
        with _naming(capture.uid), contextlib.ExitStack() as steps:
            steps.callback(os.close, capture.netns_fd)
            for listener in (capture.tunnel, capture.inbound, *capture.outbound):
                steps.callback(listener.close)
            for address in capture.addresses:
                steps.callback(self._maps.unlisten, address)
            steps.callback(self._unpin, capture.pin)
            steps.callback(self._maps.dismiss, capture.netns_cookie)

    def leave(self, capture: Capture) -> None:
        """
        Leave a pod as an agent that ends leaves it: redirected, and refused.

        Its addresses are free for another pod. It can be captured again, and is a
        stranger until then. Every step is tried; the last failure is raised.
        """
        self._captures.pop(capture.uid, None)
        with _naming(capture.uid), contextlib.ExitStack() as steps:
            steps.callback(os.close, capture.netns_fd)
            for listener in (capture.tunnel, capture.inbound, *capture.outbound):
                steps.callback(listener.close)
            for address in capture.addresses:
                steps.callback(self._maps.unlisten, address)
            steps.callback(self._maps.enrol, capture.netns_cookie, ())

    def rename(self, held: Capture, uid: str) -> Capture:
        """
        Make a capture that of another pod in the same namespace.

        Link, listeners and entries stay as they are; only the pin's name changes.
        Raises: KernelError, and then nothing has changed.
        """
        renamed = replace(held, uid=uid)
        with _naming(uid):
            link = self._layout.netns_link(held.pin)
            link.rename(self._layout.netns_link(renamed.pin))
        self._captures.pop(held.uid, None)
        self._captures[uid] = renamed
        return renamed

    def forget_connections(self) -> None:
        """Drop what connections of an earlier agent left in the maps, at the start."""
        self._maps.forget_connections()

    def forget_strangers(
        self, keep: Collection[str], namespaces: Iterable[Path] = ()
    ) -> list[str]:
        """
        Release what a killed agent, or `leave`, left of pods that are gone, and of
        namespaces where a captured pod is no more; returns the pods' uids.

        Pods in `keep`, and whichever pod is in one of `namespaces`, stay captured.
        """
        cookies = {_cookie_at(path) for path in namespaces}
        waiting = set(keep) - self._captures.keys()
        held = {capture.pin for capture in self._captures.values()}
        strangers = [
            pin
            for pin in pinset.netns_pins(self._layout)
            if pin not in held and pin.uid not in waiting and pin.cookie not in cookies
        ]
        for pin in strangers:
            self._maps.dismiss(pin.cookie)
            self._unpin(pin)
        return [pin.uid for pin in strangers]

    def renew(self, capture: Capture) -> None:
        """
        Put back what the kernel lost of a capture: entries and links.

        Nothing is undone where a step fails. Raises: KernelError, InputError.
        """
        with _naming(capture.uid):
            try:
                self._take_inbound(capture, contextlib.ExitStack())
            finally:
                self._maps.enrol(capture.netns_cookie, capture.addresses)

    # Steps of a capture.

    def _refuse_conflict(
        self, uid: str, cookie: int, addresses: Collection[IPAddress]
    ) -> None:
        """Two pods in one namespace or with one address cannot be told apart."""
        if cookie == own_netns_cookie():
            raise InputError("it runs in the node's own network namespace")
        for other in self._captures.values():
            if other.uid == uid:
                continue
            if other.netns_cookie == cookie:
                raise InputError(f"its namespace is captured for pod {other.uid}")
            shared = sorted(map(str, set(addresses) & set(other.addresses)))
            if shared:
                raise InputError(f"{shared[0]} is the address of pod {other.uid} too")

    def _listeners(
        self,
        uid: str,
        netns_fd: int,
        cookie: int,
        addresses: tuple[IPAddress, ...],
        undo: contextlib.ExitStack,
    ) -> Capture:
        with inside(netns_fd):
            outbound4 = _listen(socket.AF_INET, "127.0.0.1", self._ports.outbound)
            undo.callback(outbound4.close)
            outbound6 = _or_without_ipv6(
                lambda: _listen(socket.AF_INET6, "::1", self._ports.outbound)
            )
            undo.callback(outbound6.close if outbound6 else lambda: None)
            inbound = _listen_any(self._ports.inbound)
            undo.callback(inbound.close)
            for listener in filter(None, (outbound4, outbound6, inbound)):
                arm(listener)  # an application is at the other end of what they accept
            tunnel = _listen_any(self._ports.tunnel)
            undo.callback(tunnel.close)
        return Capture(
            uid=uid,
            netns_fd=netns_fd,
            netns_cookie=cookie,
            addresses=addresses,
            outbound=(outbound4, outbound6) if outbound6 else (outbound4,),
            inbound=inbound,
            tunnel=tunnel,
        )

    def _take_inbound(self, made: Capture, undo: contextlib.ExitStack) -> None:
        for address in made.addresses:
            self._maps.listen(address, made.inbound.fileno())
            undo.callback(self._maps.unlisten, address)
        program = self._layout.programs / NETNS_HOOK.name
        here = self._layout.here_link(made.pin)
        with pins.opened(program) as program_fd:
            renewed = self._renew_link(made.pin, program_fd)
            if renewed and here.exists():
                self._discard(self._layout.past_link(made.pin))
                return
            # The kernel runs them in the order of attachment: `here` goes first.
            if renewed:
                self._discard(self._layout.past_link(made.pin))
                link_path = self._layout.netns_link(made.pin)
                link_path.rename(self._layout.past_link(made.pin))
            else:
                undo.callback(self._unpin, made.pin)
            if not here.exists():
                with self._telling_here(made.netns_cookie) as here_fd:
                    self._attach(here_fd, made, here)
            self._attach(program_fd, made, self._layout.netns_link(made.pin))
        self._discard(self._layout.past_link(made.pin))

    @contextlib.contextmanager
    def _telling_here(self, cookie: int) -> Iterator[int]:
        with pins.opened(self._layout.maps / whereabouts.NAME) as map_fd:
            program = pins.load(
                whereabouts.NAME,
                NETNS_HOOK.program,
                NETNS_HOOK.attach,
                whereabouts.instructions(map_fd, cookie),
            )
        try:
            yield program
        finally:
            os.close(program)

    def _attach(self, program_fd: int, made: Capture, path: Path) -> None:
        link = pins.link_create(
            program_fd, made.netns_fd, NETNS_HOOK.attach, "sk_lookup to the pod"
        )
        try:
            pins.pin(link, path)
        finally:
            os.close(link)

    def _renew_link(self, pin: NetnsPin, program_fd: int) -> bool:
        """Whether a link of an earlier agent serves on, now with our program."""
        for left in pinset.netns_pins(self._layout):
            if left.cookie == pin.cookie:
                path = self._layout.netns_link(left)
                pins.link_update(path, program_fd)
                path.rename(self._layout.netns_link(pin))
                return True
        return False

    def _readdress(self, held: Capture, wanted: tuple[IPAddress, ...]) -> Capture:
        listener = held.inbound.fileno()
        change = difference(
            dict.fromkeys(wanted, listener), dict.fromkeys(held.addresses, listener)
        )
        if not change and wanted == held.addresses:
            return held
        for address in change.puts:
            self._maps.listen(address, listener)
        self._maps.enrol(held.netns_cookie, wanted)
        for address in change.deletes:
            self._maps.unlisten(address)
        renewed = replace(held, addresses=wanted)
        self._captures[held.uid] = renewed
        return renewed

    def _unpin(self, pin: NetnsPin) -> None:
        self._discard(self._layout.netns_link(pin))
        self._discard(self._layout.past_link(pin))
        self._discard(self._layout.here_link(pin))

    def _discard(self, link: Path) -> None:
        with contextlib.suppress(pins.MissingPin):
            pins.unlink(link)


@contextlib.contextmanager
def _naming(uid: str) -> Iterator[None]:
    """Errors name the pod, and are ours."""
    try:
        yield
    except InputError as error:
        raise InputError(f"pod {uid}: {error}") from error
    except (KernelError, OSError) as error:
        raise KernelError(f"pod {uid}: {error}") from error


def _open_netns(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"network namespace {path}: {error.strerror}") from error


def _cookie_at(path: Path) -> int | None:
    """The cookie of the namespace at `path`; None if there is none."""
    try:
        descriptor = _open_netns(path)
    except InputError:
        return None
    try:
        return netns_cookie_of(descriptor)
    except (KernelError, InputError, OSError):
        return None
    finally:
        os.close(descriptor)


def _listen(family: int, host: str, port: int) -> socket.socket:
    """Raises: InputError when the port is taken, OSError for anything else."""
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            both = 0 if host == "::" else 1
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, both)
        tune(listener)  # what it accepts inherits the options
        listener.bind((host, port))
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} is taken in its network namespace; the agent needs it"
            ) from error
        raise
    return listener


def _or_without_ipv6(
    listen: Callable[[], socket.socket],
) -> socket.socket | None:
    try:
        return listen()
    except OSError as error:
        if error.errno in _NO_IPV6:
            return None
        raise


def _listen_any(port: int) -> socket.socket:
    """On every address of both families, or of IPv4 where there is no IPv6."""
    dual = _or_without_ipv6(lambda: _listen(socket.AF_INET6, "::", port))
    return dual or _listen(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 in the pod
