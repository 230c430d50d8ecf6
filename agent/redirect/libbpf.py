"""
libbpf, which Debian's bcc brings: the functions that we call, typed.

libbpf 1.x returns a negative errno and sets errno.
"""

from __future__ import annotations

import ctypes as ct
import os
from functools import cache
from typing import Final

from agent.errors import KernelError

NAME: Final = "libbpf.so.1"
_ENOTSUPP: Final = 524  # include/linux/errno.h: the kernel's own, unknown to libc

_SIGNATURES: Final = {
    "bpf_obj_get": (ct.c_char_p,),
    "bpf_obj_pin": (ct.c_int, ct.c_char_p),
    "bpf_obj_get_info_by_fd": (ct.c_int, ct.c_void_p, ct.POINTER(ct.c_uint32)),
    "bpf_map_create": (
        *(ct.c_int, ct.c_char_p, ct.c_uint32, ct.c_uint32, ct.c_uint32, ct.c_void_p),
    ),
    "bpf_map_update_elem": (ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_uint64),
    "bpf_map_lookup_elem": (ct.c_int, ct.c_char_p, ct.c_char_p),
    "bpf_map_lookup_and_delete_elem": (ct.c_int, ct.c_char_p, ct.c_char_p),
    "bpf_map_delete_elem": (ct.c_int, ct.c_char_p),
    "bpf_map_lookup_batch": (ct.c_int, *(ct.c_void_p,) * 6),
    "bpf_map_get_next_key": (ct.c_int, ct.c_char_p, ct.c_char_p),
    "bpf_btf_load": (ct.c_char_p, ct.c_size_t, ct.c_void_p),
    "bpf_prog_load": (
        *(ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_char_p, ct.c_size_t, ct.c_void_p),
    ),
    "bpf_prog_query": (ct.c_int, ct.c_int, ct.c_uint32, *(ct.c_void_p,) * 3),
    "bpf_prog_attach": (ct.c_int, ct.c_int, ct.c_int, ct.c_uint32),
    "bpf_prog_get_fd_by_id": (ct.c_uint32,),
    "bpf_link_create": (ct.c_int, ct.c_int, ct.c_int, ct.c_void_p),
    "bpf_link_update": (ct.c_int, ct.c_int, ct.c_void_p),
    "bpf_link_detach": (ct.c_int,),
}


@cache
def library() -> ct.CDLL:
    """Raises: KernelError where it is not installed."""
    try:
        library = ct.CDLL(NAME, use_errno=True)
    except OSError as error:
        raise KernelError(f"{NAME}: not found; install the libbpf1 package") from error
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, ct.c_int
    return library


def failed(what: str, code: int) -> KernelError:
    said = "Not supported" if code == _ENOTSUPP else os.strerror(code)
    return KernelError(f"{what}: {said}")


def call(what: str, name: str, *arguments: object) -> int:
    """What the function returned. Raises: KernelError, naming `what`."""
    result: int = getattr(library(), name)(*arguments)
    if result < 0:
        raise failed(what, ct.get_errno())
    return result
