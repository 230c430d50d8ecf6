"""
Each feature of `features.py`, tried on this kernel with programs of a few instructions.

Nothing stays: programs and maps go with their descriptors, and links too, which are
attached for a moment to the very cgroup that the redirect wants. What they attach
lets everything pass.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from agent.errors import KernelError
from agent.redirect import assembly as asm
from agent.redirect import features, libbpf, netns, pins, sockets
from agent.redirect.assembly import R0, R1, R2, R3, R4, R6, R10
from agent.redirect.features import Feature, Outcome
from agent.redirect.layout import CGROUP_HOOKS, NETNS_HOOK, Hook

# enum bpf_func_id, uapi/linux/bpf.h.
_MAP_LOOKUP: Final = 1
_SOCKET_COOKIE: Final = 46
_SK_RELEASE: Final = 86
_SK_STORAGE_GET: Final = 107
_NETNS_COOKIE: Final = 122
_SK_ASSIGN: Final = 124
# enum bpf_map_type.
_LRU_HASH: Final = 9
_SOCKHASH: Final = 18
_SK_STORAGE: Final = 24
_NO_PREALLOC: Final = 1
# struct bpf_sock_addr, struct bpf_sk_lookup.
_SOCK_AT: Final = 64
_INGRESS_IFINDEX_AT: Final = 64

_NAME: Final = "podlock_try"
_PASS: Final = asm.leave(1)
_KEEP_CONTEXT: Final = asm.move(R6, R1)
_HOOKS: Final = {hook.name: hook for hook in (*CGROUP_HOOKS, NETNS_HOOK)}


def examine(cgroup: Path) -> tuple[Outcome, ...]:
    """Every feature, on this kernel and for this cgroup. Raises: KernelError."""
    libbpf.library()
    trials: dict[Feature, Callable[[], None]] = {
        features.LOAD: lambda: _load(_PASS, "redirect4"),
        features.CONNECT: lambda: _load(_cookies(), "redirect4", "redirect6"),
        features.NAMES: lambda: _load(
            _PASS, "peer_name4", "peer_name6", "own_name4", "own_name6"
        ),
        features.STORAGE: _remember,
        features.SOCK_OPS: lambda: _load(_cookies(), "note_flow"),
        features.LOOKUP: _assign,
        features.INTERFACE: lambda: _load(
            asm.read32(R0, R1, _INGRESS_IFINDEX_AT) + _PASS, NETNS_HOOK.name
        ),
        features.CGROUP_LINKS: lambda: _attach_all(cgroup),
        features.NETNS_LINKS: _attach_here,
        features.COOKIE: lambda: _discard(netns.own_netns_cookie()),
        features.TAKE: _take,
        features.DESTROY: sockets.probe,
    }
    return features.judge({feature: _said(each) for feature, each in trials.items()})


def _said(trial: Callable[[], None]) -> str | None:
    try:
        trial()
    except (KernelError, OSError) as error:
        return str(error).removeprefix(f"load the program {_NAME}: ")
    return None


def _discard(_: object) -> None: ...


@contextlib.contextmanager
def _program(instructions: bytes, hook: Hook) -> Iterator[int]:
    fd = pins.load(_NAME, hook.program, hook.attach, instructions)
    try:
        yield fd
    finally:
        os.close(fd)


def _load(instructions: bytes, *names: str) -> None:
    for name in names:
        with _program(instructions, _HOOKS[name]):
            pass


def _cookies() -> bytes:
    """The cookies of the namespace and of the socket."""
    ask = (
        asm.move(R1, R6) + asm.call(each) for each in (_NETNS_COOKIE, _SOCKET_COOKIE)
    )
    return _KEEP_CONTEXT + b"".join(ask) + _PASS


# Maps.


class _MapOptions(ct.Structure):
    """The head of struct bpf_map_create_opts, bpf/bpf.h of libbpf 1.x."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("btf_fd", ct.c_uint32),
        ("key_type", ct.c_uint32),
        ("value_type", ct.c_uint32),
        ("value_kernel_type", ct.c_uint32),
        ("inner_map", ct.c_uint32),
        ("flags", ct.c_uint32),
    )


@contextlib.contextmanager
def _map(kind: int, entries: int, *, flags: int = 0, btf: int = 0) -> Iterator[int]:
    """Keys and values of 4 bytes; `btf` describes them, as type 1."""
    typed = 1 if btf else 0
    options = _MapOptions(ct.sizeof(_MapOptions), btf, typed, typed, 0, 0, flags)
    create = ("bpf_map_create", kind, _NAME.encode(), 4, 4, entries, ct.byref(options))
    fd = libbpf.call("make a map", *create)
    try:
        yield fd
    finally:
        os.close(fd)


def _integer_type() -> int:
    """BTF that knows `int`, which socket storage wants of its keys and values."""
    names = b"\0int\0"
    kind = struct.pack("=IIII", 1, 1 << 24, 4, 1 << 24 | 32)  # signed, 32 bits
    head = struct.pack(
        "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(kind), len(kind), len(names)
    )
    data = head + kind + names
    return libbpf.call("load BTF", "bpf_btf_load", data, len(data), None)


def _remember() -> None:
    """sk = ctx->sk; if (sk) sk_storage_get(map, sk, 0, 0);"""
    btf = _integer_type()
    try:
        with _map(_SK_STORAGE, 0, flags=_NO_PREALLOC, btf=btf) as storage:
            look = (
                asm.map_of(R1, storage),
                asm.move(R2, R6),
                asm.number(R3, 0),
                asm.number(R4, 0),
                asm.call(_SK_STORAGE_GET),
            )
            size = sum(map(len, look)) // pins.INSTRUCTION_BYTES
            text = (asm.read64(R6, R1, _SOCK_AT), asm.skip_if_zero(R6, size), *look)
            _load(b"".join((*text, _PASS)), "redirect4", "peer_name4")
            _load(b"".join((*_sock_of_ops(), *text[1:], _PASS)), "note_flow")
    finally:
        os.close(btf)


def _sock_of_ops() -> tuple[bytes, ...]:
    return (asm.read64(R6, R1, 184),)  # struct bpf_sock_ops, sk


def _assign() -> None:
    """listener = lookup(map, &0); if (listener) { sk_assign; sk_release; }"""
    with _map(_SOCKHASH, 1) as listeners:
        give = (
            asm.move(7, R0),
            asm.move(R1, R6),
            asm.move(R2, 7),
            asm.number(R3, 0),
            asm.call(_SK_ASSIGN),
            asm.move(R1, 7),
            asm.call(_SK_RELEASE),
        )
        text = (
            _KEEP_CONTEXT,
            asm.map_of(R1, listeners),
            asm.store32(R10, -4, 0),
            asm.move(R2, R10),
            asm.add(R2, -4),
            asm.call(_MAP_LOOKUP),
            asm.skip_if_zero(R0, len(give)),
            *give,
        )
        _load(b"".join((*text, _PASS)), NETNS_HOOK.name)


def _take() -> None:
    with _map(_LRU_HASH, 1) as entries:
        # The map owns a descriptor, and this one is closed above.
        pinned = pins.PinnedMap(os.dup(entries), _NAME)
        try:
            pinned.put(bytes(4), bytes(4))
            if pinned.take(bytes(4)) is None or pinned.get(bytes(4)) is not None:
                raise KernelError("an entry was read and stayed")
        finally:
            pinned.close()


# Attaching.


def _attach_all(cgroup: Path) -> None:
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for hook in CGROUP_HOOKS:
            _attach(hook, target, f"{hook.attach.name} to {cgroup}")
    finally:
        os.close(target)


def _attach_here() -> None:
    target = os.open(netns.OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _attach(NETNS_HOOK, target, "sk_lookup")
    finally:
        os.close(target)


def _attach(hook: Hook, target: int, what: str) -> None:
    with _program(_PASS, hook) as program:
        link = pins.link_create(program, target, hook.attach, what)
        libbpf.library().bpf_link_detach(link)
        os.close(link)
