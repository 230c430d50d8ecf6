"""
The kernel's BPF objects without a compiler: pins, maps, links, small programs.

Every call is one system call; nothing here keeps state but a descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.errors import KernelError
from agent.redirect import libbpf

INSTRUCTION_BYTES: Final = 8

BATCH: Final = 4096  # entries in one call; no bucket of a hash is as large

_ANY: Final = 0  # BPF_ANY: create or replace


class MissingPin(KernelError):
    """Nothing is pinned at that path."""


class _MapInfo(ct.Structure):
    """The head of struct bpf_map_info, uapi/linux/bpf.h."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("key_bytes", ct.c_uint32),
        ("value_bytes", ct.c_uint32),
        ("max_entries", ct.c_uint32),
        ("flags", ct.c_uint32),
    )


def obj_get(path: Path) -> int:
    """
    A descriptor of what is pinned at `path`; the caller closes it.

    Raises: MissingPin; KernelError for anything else.
    """
    fd: int = libbpf.library().bpf_obj_get(os.fsencode(path))
    if fd >= 0:
        return fd
    code = ct.get_errno()
    if code in (errno.ENOENT, errno.ENOTDIR):
        raise MissingPin(f"{path}: nothing is pinned there")
    raise libbpf.failed(f"open the pin {path}", code)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """`obj_get`, closed at the end."""
    fd = obj_get(path)
    try:
        yield fd
    finally:
        os.close(fd)


def pin(fd: int, path: Path) -> None:
    """Keep a map, program or link alive under a name. Raises: KernelError."""
    libbpf.call(f"pin at {path}", "bpf_obj_pin", fd, os.fsencode(path))


class _LoadOptions(ct.Structure):
    """The head of struct bpf_prog_load_opts, bpf/bpf.h of libbpf 1.x."""

    _fields_ = (
        ("size", ct.c_size_t),
        ("attempts", ct.c_int),
        ("attach_type", ct.c_int),
    )


def load(name: str, program_type: int, attach_type: int, instructions: bytes) -> int:
    """A descriptor of a program; the caller closes it. Raises: KernelError."""
    options = _LoadOptions(ct.sizeof(_LoadOptions), 0, attach_type)
    return libbpf.call(
        f"load the program {name}",
        "bpf_prog_load",
        program_type,
        name.encode(),
        b"GPL",
        instructions,
        len(instructions) // INSTRUCTION_BYTES,
        ct.byref(options),
    )


def link_create(program_fd: int, target_fd: int, attach_type: int, what: str) -> int:
    """
    Attach a program to a cgroup or network namespace; the caller closes the link.

    A link that is pinned outlives this process, one that is not ends with its
    descriptor. Raises: KernelError, naming `what`.
    """
    return libbpf.call(
        f"attach {what}", "bpf_link_create", program_fd, target_fd, attach_type, None
    )


def attach_to_map(program_fd: int, map_fd: int, attach_type: int) -> None:
    """
    Let a program judge what sockets in a sockhash send or receive.

    It stays for as long as the map does. Raises: KernelError.
    """
    what = "attach a program to a sockhash"
    libbpf.call(what, "bpf_prog_attach", program_fd, map_fd, attach_type, 0)


def link_update(path: Path, program_fd: int) -> None:
    """Put another program into a pinned link, in one step. Raises: KernelError."""
    with opened(path) as link:
        libbpf.call(
            f"update the link {path}", "bpf_link_update", link, program_fd, None
        )


def unlink(path: Path) -> None:
    """
    Remove a link: detached when this returns. Removing the pin alone would leave
    that to a kernel worker. A link whose target has gone is only unpinned.

    Raises: MissingPin, KernelError.
    """
    with opened(path) as link:
        libbpf.library().bpf_link_detach(link)
    path.unlink(missing_ok=True)


def _cut(data: bytes, size: int, count: int) -> Iterator[bytes]:
    """The first `count` parts of a size."""
    return (data[at : at + size] for at in range(0, count * size, size))


class PinnedMap:
    """A map with keys and values of fixed size, by its descriptor, which it owns."""

    __slots__ = ("_fd", "_key_bytes", "_value_bytes", "id", "name")

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name
        info = _MapInfo()
        size = ct.c_uint32(ct.sizeof(info))
        try:
            libbpf.call(
                f"map {name}",
                "bpf_obj_get_info_by_fd",
                fd,
                ct.byref(info),
                ct.byref(size),
            )
        except KernelError:
            self.close()
            raise
        self.id: int = info.id
        self._key_bytes: int = info.key_bytes
        self._value_bytes: int = info.value_bytes

    @classmethod
    def open(cls, path: Path) -> PinnedMap:
        """Raises: MissingPin, KernelError."""
        return cls(obj_get(path), path.name)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of a key and of a value."""
        return self._key_bytes, self._value_bytes

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def put(self, key: bytes, value: bytes) -> None:
        """Create or replace. Raises: KernelError, also when the map is full."""
        self._check(key, value)
        self._call("put", "bpf_map_update_elem", key, value, _ANY)

    def get(self, key: bytes) -> bytes | None:
        return self._read("bpf_map_lookup_elem", key)

    def take(self, key: bytes) -> bytes | None:
        """Look up and delete, in one step."""
        return self._read("bpf_map_lookup_and_delete_elem", key)

    def delete(self, key: bytes) -> bool:
        """Whether it was there."""
        self._check(key)
        if libbpf.library().bpf_map_delete_elem(self._fd, key) >= 0:
            return True
        code = ct.get_errno()
        # A sockhash says EINVAL where a hash says ENOENT (sock_hash_delete_elem).
        if code in (errno.ENOENT, errno.EINVAL):
            return False
        raise libbpf.failed(f"map {self.name}: delete", code)

    def __iter__(self) -> Iterator[bytes]:
        """
        Every key that stays while this runs; the caller may delete as it goes.

        The kernel starts over when the last key has gone, so the next one is read
        before a key is handed out, and a bound ends a walk that others disturb.
        """
        seen: set[bytes] = set()
        key = self._after(None)
        while key is not None and key not in seen:
            seen.add(key)
            following = self._after(key)
            yield key
            key = following

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self:
            if (value := self.get(key)) is not None:
                yield key, value

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        """
        Every key and value of a hash, some thousand in one system call (Linux 5.6).

        Entries that come or go meanwhile may be in it or not; all others are.
        """
        keys = ct.create_string_buffer(BATCH * self._key_bytes)
        values = ct.create_string_buffer(BATCH * self._value_bytes)
        token: ct.c_uint32 | None = None
        ended = False
        while not ended:
            count, following = ct.c_uint32(BATCH), ct.c_uint32()
            start = ct.byref(token) if token is not None else None
            arguments = (ct.byref(following), keys, values, ct.byref(count), None)
            if libbpf.library().bpf_map_lookup_batch(self._fd, start, *arguments) < 0:
                code = ct.get_errno()
                if code != errno.ENOENT:
                    raise libbpf.failed(f"map {self.name}: list", code)
                ended = True
            token = following
            yield from zip(
                _cut(keys.raw, self._key_bytes, count.value),
                _cut(values.raw, self._value_bytes, count.value),
                strict=True,
            )

    def _after(self, key: bytes | None) -> bytes | None:
        following = ct.create_string_buffer(self._key_bytes)
        if libbpf.library().bpf_map_get_next_key(self._fd, key, following) >= 0:
            return following.raw
        code = ct.get_errno()
        if code == errno.ENOENT:
            return None
        raise libbpf.failed(f"map {self.name}: list", code)

    def _read(self, function: str, key: bytes) -> bytes | None:
        self._check(key)
        value = ct.create_string_buffer(self._value_bytes)
        if getattr(libbpf.library(), function)(self._fd, key, value) >= 0:
            return value.raw
        code = ct.get_errno()
        if code == errno.ENOENT:
            return None
        raise libbpf.failed(f"map {self.name}: look up", code)

    def _check(self, key: bytes, value: bytes | None = None) -> None:
        # The kernel reads as many bytes as the map says, whatever we hand over.
        fits = len(key) == self._key_bytes and (
            value is None or len(value) == self._value_bytes
        )
        if self._fd < 0 or not fits:
            raise KernelError(f"map {self.name}: closed, or a record of another size")

    def _call(self, verb: str, function: str, *arguments: object) -> None:
        libbpf.call(f"map {self.name}: {verb}", function, self._fd, *arguments)
